"""A download that writes many files, each within the limit of one file but together more than a download may use. HOW says which."""

import os
import time

from stand_in import HOME, describe, finish


def write_files(number):
    with open(HOME + "/tmp/%d" % number, "wb") as file:
        file.write(b"x" * 500000)


def nest_folders(_number):
    os.makedirs(HOME + "/a" * 40, exist_ok=True)


def close_folder(number):
    os.mkdir(HOME + "/%d" % number, 0o300)


def create_empty_files(number):
    for n in range(500):
        open(HOME + "/%d-%d" % (number, n), "w").close()


hoard = globals()[os.environ["HOW"]]
describe("begins")
for number in range(60):
    hoard(number)
    print("P {}", flush=True)
    time.sleep(0.2)
finish(HOME + "/out/media.mp4")
