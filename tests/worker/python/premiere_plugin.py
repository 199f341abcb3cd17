"""A plugin for yt-dlp: an extractor for announced videos, whose page is their description in JSON."""

from yt_dlp.extractor.common import InfoExtractor


class PremiereIE(InfoExtractor):
    _VALID_URL = r"https?://127\.0\.0\.1:[0-9]+/premiere/(?P<id>[0-9a-z]+)"

    def _real_extract(self, url):
        info = self._download_json(url, self._match_id(url))
        if not info.get("url"):
            self.raise_no_formats("Premieres in a few moments", expected=True)
        return {"id": "1", "title": "Premiere", "ext": "mp4", **info}
