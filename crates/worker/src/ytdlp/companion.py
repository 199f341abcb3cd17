"""Makes yt-dlp resume downloads safely, among other things. The worker loads this into yt-dlp as a plugin.

* A partial file is resumed only from a response that repeats the file's last bytes, and whose ETag, date and length match
  those of the earlier responses. Otherwise the file starts over, so that it never mixes two versions.
* A file made of fragments resumes at its last whole fragment, whenever yt-dlp was killed, provided that the list of
  fragments and that fragment are unchanged. yt-dlp alone may append a fragment twice.
* If a site responds with Retry-After, yt-dlp makes no further request, so that the worker can wait as long as required.
* For an announced video, the start time is printed.
* A requested subtitle language also matches its regional variants, if the site does not have the language itself (RFC 4647,
  basic filtering).
* For a playlist of playlists, such as a channel with its tabs, the videos of all of them are listed.

The files of an earlier run are in `kept`. The end of this module moves them back: without this plugin, nothing is resumed.
"""
import datetime
import email.utils
import json
import os
import re
import time
import zlib

from yt_dlp.downloader.common import FileDownloader
from yt_dlp import YoutubeDL
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.downloader.http import HttpFD
from yt_dlp.extractor.common import InfoExtractor
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead
from yt_dlp.utils import DownloadError, ExtractorError, parse_http_range

OVERLAP = 16 * 1024
CHANGED = 'the source has changed while it was fetched'


def seconds_to_wait(response):
    """Parses Retry-After, which holds seconds or a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get('Retry-After')
    if response.status not in (408, 429) and response.status < 500 or not value:
        return None
    try:
        return max(0, int(value))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
        return max(0, int((at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) + 1)
    except (TypeError, ValueError):
        return None


def with_wait(init):
    def patched(self, response, *args, **kwargs):
        init(self, response, *args, **kwargs)
        self.wait = seconds_to_wait(response)
        if self.wait is not None:
            self.msg = f'{self.msg} (retry after {self.wait} s)'
            self.args = (self.msg,)
    return patched


def version_of(response):
    """Returns what distinguishes one version of a file from another."""
    _, _, total = parse_http_range(response.headers.get('Content-Range'))
    if total is None and response.status == 200 and not response.headers.get('Content-Encoding'):
        length = response.headers.get('Content-Length')
        total = int(length) if length and length.isdigit() else None
    return {'etag': response.headers.get('ETag'), 'modified': response.headers.get('Last-Modified'), 'total': total}


def differ(one, other):
    return any(one.get(key) and other.get(key) and one[key] != other[key] for key in ('etag', 'modified', 'total'))


class OneFile:
    """Wraps YoutubeDL for the downloader of one file, and checks the responses."""

    def __init__(self, ydl, part, info_dict, chunked):
        self._ydl = ydl
        self._part = part
        self._base = parse_http_range((info_dict.get('http_headers') or {}).get('Range'))[0] or 0
        self._chunked = chunked
        # Only the process that started a fragment can resume it.
        self._note = None if 'frag_resume_len' in info_dict else f'{part}.from'
        self._version = self._read() or {}
        self.modified = self.date = None

    def __getattr__(self, name):
        return getattr(self._ydl, name)

    def urlopen(self, request):
        try:
            response = self._open(request)
        except HTTPError as error:
            if getattr(error, 'wait', None) is None:
                raise
            # yt-dlp would retry at once.
            raise DownloadError(f'unable to download video data: {error}') from None
        self.modified = seconds_of(response.headers.get('Last-Modified'))
        self.date = seconds_of(response.headers.get('Date'))
        return response

    def _open(self, request):
        start, end, _ = parse_http_range(request.headers.get('Range'))
        at = (start or 0) - self._base
        if at <= 0:
            return self._begin(self._ydl.urlopen(request))
        tail = self._tail(at)
        first = start - (at - tail[0])
        asked = request.copy()
        asked.headers['Range'] = f'bytes={first}-{"" if end is None else end}'
        etag = self._version.get('etag')
        if etag and not etag.startswith('W/'):
            asked.headers['If-Range'] = etag
        try:
            response = self._ydl.urlopen(asked)
        except HTTPError as error:
            if error.status != 416:
                raise
            return self._anew(request)
        if response.status == 200 and not self._chunked and not self._base:
            return self._begin(response)
        ranged = response.status == 206 and parse_http_range(response.headers.get('Content-Range'))[0] == first
        if not ranged or differ(self._version, version_of(response)) or not repeats(response, tail[1], at - tail[0]):
            response.close()
            return self._anew(request)
        return self._rest(request, response, start, at - tail[0])

    def _rest(self, request, response, start, read):
        _, last, total = parse_http_range(response.headers.get('Content-Range'))
        if last is not None and last < start:
            # The file is complete. yt-dlp has to learn that from the server, so its own request is sent.
            response.close()
            return self._ydl.urlopen(request)
        length = response.headers.get('Content-Length')
        del response.headers['Content-Range'], response.headers['Content-Length']
        response.headers['Content-Range'] = f'bytes {start}-{"" if last is None else last}/{"*" if total is None else total}'
        if length:
            response.headers['Content-Length'] = str(int(length) - read)
        return response

    def _begin(self, response):
        """Records the version of a response with the whole file, which yt-dlp then writes from the beginning."""
        self._version = version_of(response)
        if self._note:
            with open(self._note, 'w') as note:
                json.dump(self._version, note)
        return response

    def _anew(self, request):
        if self._chunked:
            # yt-dlp has the file open and would append to it.
            remove(self._part)
            if self._note:
                remove(self._note)
            raise DownloadError(CHANGED)
        whole = request.copy()
        whole.headers.pop('Range', None)
        if self._base:
            whole.headers['Range'] = f'bytes={self._base}-{parse_http_range(request.headers.get("Range"))[1] or ""}'
        return self._begin(self._ydl.urlopen(whole))

    def _tail(self, at):
        """Returns the offset of the last bytes before `at` that are in the file, and these bytes."""
        try:
            with open(self._part, 'rb') as part:
                have = min(os.fstat(part.fileno()).st_size, at)
                begin = max(0, have - OVERLAP)
                part.seek(begin)
                return begin, part.read(have - begin)
        except FileNotFoundError:
            return at, b''

    def _read(self):
        try:
            with open(self._note) as note:
                version = json.load(note)
            return version if isinstance(version, dict) else None
        except (OSError, TypeError, ValueError):
            return None


def repeats(response, known, length):
    """Reads `length` bytes, and returns whether they start with the known ones."""
    read = b''
    while len(read) < length:
        more = response.read(length - len(read))
        if not more:
            raise IncompleteRead(partial=len(read), expected=length - len(read))
        read += more
    return read.startswith(known)


def seconds_of(date):
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None


def of_one_version(real_download):
    def patched(self, filename, info_dict):
        if filename == '-':
            return real_download(self, filename, info_dict)
        ydl, options = self.ydl, info_dict.get('downloader_options') or {}
        chunked = bool(self.params.get('http_chunk_size') or options.get('http_chunk_size'))
        self.ydl = self.answers = OneFile(ydl, self.temp_name(filename), info_dict, chunked)
        try:
            return real_download(self, filename, info_dict)
        finally:
            self.ydl = ydl
    return patched


class Fragments:
    """The progress of a file made of fragments: a line for each, with its number, its end offset in the file, and its checksum."""

    def __init__(self, part):
        self.part, self.note = part, f'{part}.at'
        self.list, self.began, self.lines = None, None, []
        self.expected = None
        self.first = True
        try:
            self._read(os.path.getsize(part))
        except (OSError, ValueError):
            self.lines = []

    def _read(self, size):
        with open(self.note) as note:
            head = json.loads(note.readline())
            self.list, self.began = head['list'], head['began']
            for number, line in enumerate(note, 1):
                values = tuple(map(int, line.split()))
                if not line.endswith('\n') or len(values) != 3 or values[0] != number or values[1] > size:
                    break
                self.lines.append(values)

    @property
    def done(self):
        return len(self.lines)

    @property
    def length(self):
        return self.lines[-1][1] if self.lines else 0

    def cut(self):
        """Truncates the file to whole fragments."""
        if self.lines:
            os.truncate(self.part, self.length)
        else:
            remove(self.part)

    def go_on(self, fragments, stream):
        """Returns the fragments that are still to be fetched; all of them if the list has changed."""
        wanted = json.dumps([[f['url'], f.get('byte_range')] for f in fragments])
        wanted = f'{len(fragments)} {zlib.crc32(wanted.encode()):08x}'
        if self.lines:
            # The URLs may have changed because each listing signs them again, or because they name another version. Fetching the
            # last fragment again shows whether those before it are still valid.
            if wanted == self.list or self.list.split()[0] == str(len(fragments)) and self.done > 1:
                self.expected = self.lines.pop()
            else:
                self.lines = []
            stream.truncate(self.length)
        self.list = wanted
        self._write()
        return [f for f in fragments if f['frag_index'] > self.done]

    def _write(self):
        with open(self.note, 'w') as note:
            note.write(json.dumps({'list': self.list, 'began': self.began}) + '\n')
            note.writelines(f'{number} {end} {check}\n' for number, end, check in self.lines)

    def fits(self, number, content, answers):
        """Returns whether a fragment belongs to the same version as those before it."""
        if self.expected and self.expected[0] == number:
            return self.expected[2] == zlib.crc32(content)
        first, self.first = self.first, False
        if not self.lines:
            self.began = getattr(answers, 'date', None)
            self._write()
        elif first and self.began and getattr(answers, 'modified', None):
            # The URL is the same, but the fragment must not have changed since the first one was fetched.
            return answers.modified <= self.began
        return True

    def add(self, number, end, content):
        self.lines.append((number, end, zlib.crc32(content)))
        with open(self.note, 'a') as note:
            note.write('%d %d %d\n' % self.lines[-1])

    def forget(self):
        remove(self.part)
        remove(self.note)


def remove(name):
    if os.path.exists(name):
        os.remove(name)


def after_the_last_whole(prepare):
    def patched(self, ctx):
        if ctx['filename'] != '-':
            fragments = Fragments(self.temp_name(ctx['filename']))
            # yt-dlp's own record is not used: it is written only after the fragment.
            remove(self.ytdl_filename(ctx['filename']))
            if isinstance(self, (HlsFD, DashSegmentsFD)) and not ctx.get('live'):
                ctx['fragments'] = fragments
                fragments.cut()
            else:
                fragments.forget()
        return prepare(self, ctx)
    return patched


def counting_those_before(start):
    def patched(self, ctx, info_dict):
        fragments = ctx.get('fragments')
        if fragments:
            ctx['fragment_index'] = fragments.done
        try:
            return start(self, ctx, info_dict)
        finally:
            if fragments:
                # The whole list is read, because keys and ranges can depend on earlier fragments.
                ctx['fragment_index'] = 0
    return patched


def only_the_rest(download_and_append):
    def patched(self, ctx, fragments, info_dict, **kwargs):
        if ctx.get('fragments'):
            fragments = ctx['fragments'].go_on(list(fragments), ctx['dest_stream'])
        return download_and_append(self, ctx, fragments, info_dict, **kwargs)
    return patched


def noted(append):
    def patched(self, ctx, content):
        fragments = ctx.get('fragments')
        number = fragments.done + 1 if fragments else 0
        if fragments and not fragments.fits(number, content, getattr(ctx['dl'], 'answers', None)):
            ctx['dest_stream'].close()
            fragments.forget()
            raise DownloadError(CHANGED)
        append(self, ctx, content)
        if fragments:
            fragments.add(number, ctx['dest_stream'].tell(), content)
    return patched


def not_before_it_was_compared(download):
    def patched(self, filename, info_dict, subtitle=False):
        if isinstance(filename, str) and os.path.isfile(filename):
            part = self.temp_name(filename)
            if os.path.getsize(filename) == length_noted(part):
                os.replace(filename, part)
        return download(self, filename, info_dict, subtitle)
    return patched


def length_noted(part):
    """Returns the length of a file as it was fetched. If it differs, the file was fixed up or merged since."""
    try:
        if os.path.exists(f'{part}.at'):
            with open(f'{part}.at') as note:
                return int(note.readlines()[-1].split()[1])
        with open(f'{part}.from') as note:
            return json.load(note)['total']
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def tell_if_announced(info):
    at = info.get('release_timestamp')
    if info.get('live_status') == 'is_upcoming' or (at or 0) > time.time():
        print('U ' + json.dumps({'at': at}), flush=True)


def after_all_is_known(raise_no_formats):
    """Makes an extractor continue until it knows when a video starts, as --wait-for-video does."""
    def patched(self, msg, expected=False, video_id=None):
        if not expected or isinstance(msg, ExtractorError):
            return raise_no_formats(self, msg, expected, video_id)
        self.without_formats = ExtractorError(msg, expected=True, video_id=video_id)
    return patched


def then_raised(extract):
    def patched(self, url):
        self.without_formats = None
        try:
            info = extract(self, url)
        except Exception:
            if self.without_formats:
                raise self.without_formats from None
            raise
        if self.without_formats and isinstance(info, dict) and not (info.get('formats') or info.get('url') or info.get('entries')):
            tell_if_announced(info)
            self.without_formats.ie = self.IE_NAME
            self.without_formats.video_id = self.without_formats.video_id or info.get('id')
            raise self.without_formats
        return info
    return patched


def told(raise_no_formats):
    def patched(self, info, *args, **kwargs):
        tell_if_announced(info)
        return raise_no_formats(self, info, *args, **kwargs)
    return patched


def by_basic_filtering(process_subtitles):
    def patched(self, video_id, normal, automatic):
        wishes = self.params.get('subtitleslangs')
        if not wishes or not self.params.get('writesubtitles'):
            return process_subtitles(self, video_id, normal, automatic)
        made_by_machine = automatic if self.params.get('writeautomaticsub') else None
        found = [best(wish, normal or {}) or best(wish, made_by_machine or {}) for wish in wishes]
        tags = [re.escape(tag) for tag in found if tag]
        if not tags:
            return None
        self.params['subtitleslangs'] = tags
        try:
            return process_subtitles(self, video_id, normal, automatic)
        finally:
            self.params['subtitleslangs'] = wishes
    return patched


def best(wish, tags):
    """Returns the wish itself if it is among the tags, or else its first regional variant."""
    wish = wish.lower()
    exact = (tag for tag in tags if tag.lower() == wish)
    regional = (tag for tag in tags if tag.lower().startswith(f'{wish}-'))
    return next(exact, None) or next(regional, None)


def with_lists_in_it(process_ie_result):
    """Expands the playlists within a playlist into their entries. Playlists nested deeper are left as they are."""
    def patched(self, ie_result, download=True, extra_info=None):
        if self.params.get('extract_flat') != 'in_playlist':
            return process_ie_result(self, ie_result, download, extra_info)
        inner = None
        if self._playlist_level == 0 and ie_result.get('_type') == 'playlist':
            # Only entries of nested playlists report the page of their playlist.
            ie_result = {key: value for key, value in ie_result.items() if key != 'webpage_url'}
        elif self._playlist_level == 1:
            inner = list_in(self, ie_result)
        if inner is None:
            return process_ie_result(self, ie_result, download, extra_info)
        title = (extra_info or {}).get('playlist_title')
        return process_ie_result(self, {**inner, **({'title': title} if title else {})}, download, {})
    return patched


def list_in(ydl, entry):
    """Returns the playlist that an entry is or refers to; None for anything else, or if it no longer exists."""
    if entry.get('_type') == 'playlist':
        return entry
    if entry.get('_type') not in ('url', 'url_transparent') or not names_a_list(ydl, entry):
        return None
    extractor = ydl.get_info_extractor(entry['ie_key'])
    try:
        found = extractor.extract(entry['url'])
    except ExtractorError as error:
        if is_gone(error):
            return None
        raise
    if not found or found.get('_type') != 'playlist':
        return None
    ydl.add_default_extra_info(found, extractor, entry['url'])
    return found


def names_a_list(ydl, entry):
    key = entry.get('ie_key')
    # A YoutubeTab URL can be a single video, but not among the entries of a playlist.
    return key == 'YoutubeTab' or bool(key) and ydl.get_info_extractor(key).is_single_video(entry['url']) is False


def is_gone(error):
    """Returns whether the site reports that the playlist does not exist, so that a retry would not help."""
    if isinstance(error.cause, HTTPError):
        return error.cause.status in (404, 410)
    return error.expected and error.cause is None


HTTPError.__init__ = with_wait(HTTPError.__init__)
HttpFD.real_download = of_one_version(HttpFD.real_download)
FileDownloader.download = not_before_it_was_compared(FileDownloader.download)
FragmentFD._prepare_frag_download = after_the_last_whole(FragmentFD._prepare_frag_download)
FragmentFD._start_frag_download = counting_those_before(FragmentFD._start_frag_download)
FragmentFD.download_and_append_fragments = only_the_rest(FragmentFD.download_and_append_fragments)
FragmentFD._append_fragment = noted(FragmentFD._append_fragment)
InfoExtractor.raise_no_formats = after_all_is_known(InfoExtractor.raise_no_formats)
InfoExtractor.extract = then_raised(InfoExtractor.extract)
YoutubeDL.process_ie_result = with_lists_in_it(YoutubeDL.process_ie_result)
YoutubeDL.process_subtitles = by_basic_filtering(YoutubeDL.process_subtitles)
YoutubeDL.raise_no_formats = told(YoutubeDL.raise_no_formats)

if os.path.isdir('kept'):
    for name in os.listdir('kept'):
        os.replace(os.path.join('kept', name), os.path.join('tmp', name))
