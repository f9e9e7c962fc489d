"""Uploaded archives: honest ones are read and unpacked, hostile ones are refused and touch nothing."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamplighter.archives import WANTED_BYTES, inspect
from lamplighter.contract.archive_rules import ArchiveLimits, check_member, unpack
from lamplighter.errors import Invalid

END = bytes(1024)


def header(
    name: bytes, *, size: int = 0, kind: bytes = b"0", link: bytes = b"", magic: bytes = b"ustar\x0000"
) -> bytes:
    """A tar header that no honest program would write, with a right checksum."""
    size_field = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = name.ljust(100, b"\0") + b"0000644\0" * 3 + size_field + b"00000000000\0" + b" " * 8
    block = (block + kind + link.ljust(100, b"\0") + magic).ljust(512, b"\0")
    return resealed(block, 0, b"")


def resealed(block: bytes, at: int, patch: bytes) -> bytes:
    block = block[:at] + patch + block[at + len(patch) :]
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def member(name: bytes, content: bytes = b"", **more: bytes) -> bytes:
    return header(name, size=len(content), **more) + content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    return member(b"pax", b"".join(pax_record(k.replace("__", "."), v) for k, v in records.items()), kind=b"x")


def pax_record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def packed(*members: bytes, end: bytes = END) -> bytes:
    return gzip.compress(b"".join(members) + end, mtime=0)


def links(*pairs: tuple[str, str]) -> bytes:
    return b"".join(member(name.encode(), kind=b"2", link=target.encode()) for name, target in pairs)


def as_vh_packs(files: dict[str, bytes]) -> bytes:
    """Files in order, no directories, pax format with float times: what the command-line client sends."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname, info.uid = len(content), 1700000000.25, "ada", 1000
            info.mode = 0o100775
            tar.addfile(info, io.BytesIO(content))
    packed_ = io.BytesIO()
    with gzip.GzipFile(filename="data.tar", mode="wb", fileobj=packed_, mtime=0) as zipped:
        zipped.write(raw.getvalue())
    return packed_.getvalue()


GOOD = member(b"valohai.yaml", b"- step: {}\n")

HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing at all": lambda: b"",
    "no gzip": lambda: b"PK\x03\x04" + bytes(500),
    "gzip of nothing": lambda: gzip.compress(b""),
    "gzip of text": lambda: gzip.compress(b"hello " * 200),
    "cut off in the gzip stream": lambda: packed(GOOD, member(b"noise", os.urandom(4096)))[:-700],
    "cut off before the checksum": lambda: packed(GOOD)[:-8],
    "a wrong gzip checksum": lambda: packed(GOOD)[:-8] + bytes(8),
    "cut off in a member": lambda: packed(header(b"a", size=100_000) + b"x" * 512, end=b""),
    "no end marker": lambda: packed(GOOD, end=b""),
    "data behind the end marker": lambda: packed(GOOD, END, GOOD),
    "data behind the gzip stream": lambda: packed(GOOD) + b"more",
    "a wrong header checksum": lambda: packed(GOOD.replace(b"valohai.yaml", b"valohai.yamm", 1)),
    "dots that climb": lambda: packed(member(b"../canary", b"owned")),
    "dots in the middle": lambda: packed(member(b"a/../../canary", b"owned")),
    "an absolute name": lambda: packed(member(b"/tmp/owned", b"owned")),
    "an absolute name by prefix": lambda: packed(
        pax(path="/etc/passwd") + member(b"harmless", b"owned"),
    ),
    "a drive name": lambda: packed(member(b"C:\\owned", b"owned")),
    "a server name": lambda: packed(member(b"\\\\server\\owned", b"owned")),
    "backslash dots": lambda: packed(member(b"a\\..\\..\\owned", b"owned")),
    "a line feed in a name": lambda: packed(member(b"a\nb", b"owned")),
    "an escape in a name": lambda: packed(member(b"a\x1b[2Jb", b"owned")),
    "a NUL in a pax name": lambda: packed(pax(path="a\0b") + member(b"a", b"owned")),
    "a name that is not UTF-8": lambda: packed(member(b"\xff\xfe", b"owned")),
    "a hard link": lambda: packed(GOOD, member(b"hard", kind=b"1", link=b"valohai.yaml")),
    "a hard link outside": lambda: packed(member(b"hard", kind=b"1", link=b"../canary/file")),
    "a character device": lambda: packed(member(b"tty", kind=b"3")),
    "a block device": lambda: packed(member(b"disk", kind=b"4")),
    "a pipe": lambda: packed(member(b"pipe", kind=b"6")),
    "an old sparse file": lambda: packed(member(b"sparse", kind=b"S")),
    "a pax sparse file": lambda: packed(pax(GNU__sparse__realsize="1") + member(b"sparse", b"x")),
    "an unknown kind": lambda: packed(member(b"what", kind=b"Z")),
    "a link to the root": lambda: packed(links(("out", "/"))),
    "a link that climbs": lambda: packed(links(("out", "../canary"))),
    "a link that climbs from below": lambda: packed(links(("a/b/out", "../../../canary"))),
    "a link that climbs through a link": lambda: packed(links(("here", "."), ("out", "here/../../canary"))),
    "a file through a link": lambda: packed(links(("dir", "other")), member(b"dir/file", b"owned")),
    "a directory that becomes a link": lambda: packed(member(b"dir/file", b"x"), links(("dir", "other"))),
    "a link that becomes a file": lambda: packed(links(("file", "other")), member(b"file", b"owned")),
    "a link with content": lambda: packed(member(b"out", b"content", kind=b"2", link=b"a")),
    "a link without target": lambda: packed(member(b"out", kind=b"2")),
    "a directory with content": lambda: packed(member(b"dir", b"content", kind=b"5")),
    "a file below a file": lambda: packed(member(b"a", b"x"), member(b"a/b", b"x")),
    "the same name twice": lambda: packed(GOOD, GOOD),
    "the same name in two spellings": lambda: packed(GOOD, member(b"./valohai.yaml", b"other")),
    "a git directory": lambda: packed(member(b".git/hooks/post-checkout", b"owned")),
    "a git directory further down": lambda: packed(member(b"sub/.GIT/config", b"owned")),
    "a git directory in disguise": lambda: packed(member("x/.g\u200cit/config".encode(), b"owned")),
    "a short git directory": lambda: packed(member(b"GIT~1/config", b"owned")),
    "a file without a name": lambda: packed(member(b"", b"owned")),
    "a file whose name is a directory's": lambda: packed(member(b"a/", b"owned")),
    "a long part": lambda: packed(pax(path="a" * 256) + member(b"a", b"x")),
    "a long path": lambda: packed(pax(path="a/" * 30 + "/".join(["b" * 250] * 17)) + member(b"a", b"x")),
    "a deep path": lambda: packed(pax(path="/".join("a" * 65)) + member(b"a", b"x")),
    "a pax header of 8 GiB": lambda: packed(header(b"pax", size=8 << 30, kind=b"x")),
    "a long name of 8 GiB": lambda: packed(header(b"long", size=8 << 30, kind=b"L")),
    "a pax record without length": lambda: packed(member(b"pax", b"hello\n", kind=b"x"), GOOD),
    "a pax record of length nought": lambda: packed(member(b"pax", b"0 a=b\n", kind=b"x"), GOOD),
    "a pax record beyond the header": lambda: packed(member(b"pax", b"999 a=b\n", kind=b"x"), GOOD),
    "a pax size that is text": lambda: packed(pax(size="many") + GOOD),
    "a pax size below nought": lambda: packed(pax(size="-1") + GOOD),
    "a pax time that is no number": lambda: packed(pax(mtime="inf") + GOOD),
    "a global header that names all": lambda: packed(member(b"g", pax_record("path", "x"), kind=b"g"), GOOD),
    "a member of 1 EiB": lambda: packed(header(b"big", size=1 << 60)),
    "a size below nought": lambda: packed(resealed(header(b"a"), 124, b"\xff" * 12)),
    "a size that is no number": lambda: packed(resealed(header(b"a"), 124, b"12 34 x")),
    "a bomb": lambda: packed(member(b"bomb", bytes(40_000_000))),
    "a bomb within the size limit": lambda: packed(member(b"bomb", bytes(20_000_000))),
    "a bomb of headers": lambda: packed(pax(comment="x" * 60_000) * 1000),
    "headers without end": lambda: packed(member(b"g", b"", kind=b"L") * 6000),
    "too many members": lambda: packed(*(member(b"f%d" % n) for n in range(1001))),
    "too many implied directories": lambda: packed(*(member(b"%d/" % n + b"d/" * 40 + b"f") for n in range(30))),
    "too many bytes": lambda: packed(*(member(b"f%d" % n, os.urandom(1 << 20)) for n in range(33))),
}
SMALL = ArchiveLimits(total_bytes=32 << 20, entries=1000)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory to unpack into, beside a canary that must look the same afterwards."""
    (tmp_path / "canary" / "below").mkdir(parents=True)
    (tmp_path / "canary" / "file").write_bytes(b"alive")
    (tmp_path / "canary" / "below" / "file").write_bytes(b"alive too")
    target = tmp_path / "target"
    target.mkdir()
    before = snapshot(tmp_path / "canary"), sorted(os.listdir(tmp_path))
    yield target
    assert (snapshot(tmp_path / "canary"), sorted(os.listdir(tmp_path))) == before


def snapshot(root: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(p.relative_to(root)), p.lstat().st_mode, p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in sorted(root.rglob("*"))
    ]


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_by_the_look_and_by_the_unpacker(case: str, place: Path) -> None:
    data = HOSTILE[case]()

    with pytest.raises(Invalid) as looked:
        inspect(io.BytesIO(data), wanted="valohai.yaml", limits=SMALL)
    with pytest.raises(Invalid) as unpacked:
        unpack(io.BytesIO(data), place, SMALL)

    assert set(looked.value.fields) == {"data"}
    assert looked.value.fields == unpacked.value.fields
    assert str(looked.value).isprintable()
    assert len(str(looked.value)) < 500


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_that_was_written_before_the_fault_leads_outside(case: str, place: Path) -> None:
    data = HOSTILE[case]()

    with pytest.raises(Invalid):
        unpack(io.BytesIO(data), place, SMALL)

    for path in place.rglob("*"):
        assert path.resolve().is_relative_to(place.resolve())


@pytest.mark.parametrize("case", ["a pax header of 8 GiB", "a long name of 8 GiB", "a bomb", "a member of 1 EiB"])
def test_a_hostile_archive_costs_little_memory(case: str) -> None:
    data = HOSTILE[case]()
    tracemalloc.start()

    with pytest.raises(Invalid):
        inspect(io.BytesIO(data), wanted="valohai.yaml")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_an_archive_cut_off_anywhere_is_refused(cut: int) -> None:
    data = packed(GOOD, member(b"noise", os.urandom(300)))

    with pytest.raises(Invalid):
        inspect(io.BytesIO(data[:cut]), wanted="valohai.yaml")


def test_one_flipped_byte_never_gives_anything_but_a_summary_or_a_refusal(place: Path) -> None:
    plain = bytearray(zlib.decompress(as_vh_packs({"a/ü.py": b"x" * 700, "valohai.yaml": b"[]"}), 31))

    for at in range(0, len(plain), 3):
        broken = plain.copy()
        broken[at] ^= 0x81
        with suppress(Invalid):
            inspect(io.BytesIO(gzip.compress(bytes(broken), 1)), wanted="valohai.yaml")


def test_a_refusal_names_the_member_escaped_and_shortened() -> None:
    data = packed(member(b"../\x1b[31m" + b"x" * 90, b""))

    with pytest.raises(Invalid) as refused:
        inspect(io.BytesIO(data), wanted="valohai.yaml")

    message = str(refused.value)
    assert "\\x1b[31m" in message
    assert "…" in message


def test_a_tar_as_the_client_packs_it_is_read_and_unpacked(place: Path) -> None:
    files = {
        "valohai.yaml": b"- step: {}\n",
        "src/größe.py": b"print()\n",
        "src/" + "n" * 120 + ".txt": b"",
        "z": b"0" * 9999,
    }
    data = as_vh_packs(files)

    summary = inspect(io.BytesIO(data), wanted="valohai.yaml")
    written = unpack(io.BytesIO(data), place)

    assert (summary.wanted, summary.files, summary.size) == (b"- step: {}\n", 4, sum(map(len, files.values())))
    assert (written.files, written.size) == (summary.files, summary.size)
    assert {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()} == files


def test_modes_are_masked_and_times_are_kept(place: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, mode in (("setuid", 0o6777), ("plain", 0o666)):
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_600_000_000
            tar.addfile(info)

    unpack(io.BytesIO(raw.getvalue()), place)

    assert stat.S_IMODE((place / "setuid").stat().st_mode) == 0o755
    assert stat.S_IMODE((place / "plain").stat().st_mode) == 0o644
    assert (place / "plain").stat().st_mtime == 1_600_000_000


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_common_format_with_directories_and_long_names_is_read(tar_format: int, place: Path) -> None:
    long = "d" * 90 + "/" + "f" * 90
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tar_format) as tar:
        for name, kind in (("./", tarfile.DIRTYPE), ("./d", tarfile.DIRTYPE), ("./d/empty", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
        info = tarfile.TarInfo(long)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))

    summary = inspect(io.BytesIO(raw.getvalue()), wanted="./" + long)
    unpack(io.BytesIO(raw.getvalue()), place)

    assert summary.wanted == b"abc"
    assert (place / "d" / "empty").is_dir()
    assert (place / long).read_bytes() == b"abc"


def test_links_that_stay_inside_the_tree_are_kept(place: Path) -> None:
    data = packed(
        member(b"data/file", b"content"),
        links(("a", "data/file"), ("data/up", "../data/./file"), ("deep/er/link", "../../data"), ("here", ".")),
    )

    unpack(io.BytesIO(data), place)

    assert (place / "a").read_bytes() == b"content"
    assert os.readlink(place / "data" / "up") == "../data/file"
    assert (place / "deep" / "er" / "link" / "file").read_bytes() == b"content"


def test_names_that_differ_only_in_case_or_composition_are_allowed() -> None:
    names = ["README", "readme", "\u00e9", "e\u0301", ".gitignore", "a/.gitmodules", "..a", "a..b", "git"]
    data = packed(*(member(name.encode()) for name in names))

    assert inspect(io.BytesIO(data), wanted="x").files == len(names)


def test_several_gzip_members_and_padding_are_one_archive() -> None:
    data = gzip.compress(GOOD) + gzip.compress(END) + bytes(1000)

    assert inspect(io.BytesIO(data), wanted="valohai.yaml").wanted == b"- step: {}\n"


def test_a_global_comment_as_git_archive_writes_it_is_harmless() -> None:
    data = packed(member(b"pax_global_header", pax_record("comment", "f" * 40), kind=b"g"), GOOD)

    assert inspect(io.BytesIO(data), wanted="valohai.yaml").files == 1


def test_an_empty_tar_holds_nothing() -> None:
    summary = inspect(io.BytesIO(packed()), wanted="valohai.yaml")

    assert (summary.wanted, summary.files, summary.size) == (None, 0, 0)


def test_a_wanted_file_that_is_too_large_is_refused() -> None:
    data = packed(member(b"valohai.yaml", os.urandom(WANTED_BYTES + 1)))

    with pytest.raises(Invalid, match="at most 262144 can be read"):
        inspect(io.BytesIO(data), wanted="valohai.yaml")


def test_a_wanted_file_that_is_a_link_is_refused() -> None:
    data = packed(member(b"real.yaml"), links(("valohai.yaml", "real.yaml")))

    with pytest.raises(Invalid, match="it is a link"):
        inspect(io.BytesIO(data), wanted="valohai.yaml")


def test_a_name_that_is_taken_on_disk_is_never_written_through(place: Path) -> None:
    (place / "file").symlink_to(place.parent / "canary" / "file")
    (place / "dir").symlink_to(place.parent / "canary" / "below")

    for name in (b"file", b"dir/file"):
        with pytest.raises(Invalid):
            unpack(io.BytesIO(packed(member(name, b"owned"))), place)


def test_the_rules_can_be_asked_about_one_member() -> None:
    assert check_member("./a//b", "file") == (("a", "b"), "")
    assert check_member("a/b", "symlink", "./../c/") == (("a", "b"), "../c")
    assert check_member("./", "directory") == ((), "")


def test_a_limit_beyond_four_gibibytes_is_a_programmers_fault() -> None:
    with pytest.raises(ValueError, match="4 GiB"):
        ArchiveLimits(total_bytes=(4 << 30) + 1)
