"""A plugin for yt-dlp: extractors for a site whose channels list tabs, which list videos."""

from yt_dlp.extractor.common import InfoExtractor


class ATabIE(InfoExtractor):
    _VALID_URL = r"https?://127.0.0.1:[0-9]+/tabs/(?P<id>[0-9a-z]+)"
    _RETURN_TYPE = "playlist"

    def _real_extract(self, url):
        videos = self._download_webpage(url, self._match_id(url)).split()
        return self.playlist_result([self.url_result(video) for video in videos], self._match_id(url), "Tab")


class AChannelIE(InfoExtractor):
    _VALID_URL = r"https?://127.0.0.1:[0-9]+/channel/(?P<id>[0-9a-z]+)"

    def _real_extract(self, url):
        tabs = self._download_webpage(url, self._match_id(url)).split()
        return self.playlist_result([self.url_result(tab, ATabIE) for tab in tabs], self._match_id(url), "Channel")
