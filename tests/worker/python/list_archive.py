"""Checks every checksum of a ZIP archive, and prints the names, sizes and hashes of the files in it."""

import hashlib
import sys
import zipfile

archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for entry in archive.infolist():
    print(entry.filename, entry.file_size, hashlib.sha256(archive.read(entry)).hexdigest())
