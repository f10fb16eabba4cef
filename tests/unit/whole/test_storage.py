"""What may be written where. Each test is named after what a user would see if it failed."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit import storage
from labkit.errors import LabError
from labkit.storage import (
    LIST,
    atomic_folder,
    atomic_path,
    claim,
    last_checkpoint,
    read_json,
    read_record,
    remove_leftovers,
    seal,
    sha256,
    writable_file,
    writable_folder,
    write_json,
    write_record,
    write_text,
)

POSIX = pytest.mark.skipif(os.name == "nt", reason="devices, links and permissions as POSIX has them")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def model_in(folder: Path, weights: str = "weights", **options: object) -> Path:
    """A folder as save_model writes it."""
    with atomic_folder(folder, **options) as partial:
        (partial / "model.safetensors").write_text(weights)
        (partial / "config.json").write_text("{}")
        (partial / "more").mkdir()
        (partial / "more" / "tokenizer.json").write_text("{}")
    return folder


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- folders ----------------------------------------------------------------------------------------------------------


def thesis(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")


def data_below(folder: Path) -> None:
    (folder / "project" / "data").mkdir(parents=True)
    (folder / "project" / "data" / "x.csv").write_text("1")


def empty_folder(folder: Path) -> None:
    (folder / "notes").mkdir()


def link_to_data(folder: Path) -> None:
    (folder / "data").symlink_to(folder.parent)


def strangers_model(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("downloaded last night")


def list_that_is_none(folder: Path) -> None:
    (folder / LIST).write_text('{"files": 3}')


def list_of_another_folder(folder: Path) -> None:
    (folder / LIST).write_text(json.dumps({"files": {"model.safetensors": "0" * 64}}))
    (folder / "model.safetensors").write_text("downloaded last night")


FOREIGN = (thesis, data_below, empty_folder, link_to_data, strangers_model, list_that_is_none, list_of_another_folder)


@pytest.mark.parametrize("put_in", FOREIGN, ids=lambda put_in: put_in.__name__)
@pytest.mark.parametrize("after_a_model", [False, True], ids=["foreign", "ours_and_foreign"])
def test_merge_into_a_folder_with_other_files_deletes_them(put_in, after_a_model, tmp_path):
    if after_a_model:
        model_in(tmp_path / "out")
    (tmp_path / "out").mkdir(exist_ok=True)
    put_in(tmp_path / "out")
    before = everything_in(tmp_path)
    with pytest.raises(LabError, match=r"did not write.*→ name a new or an empty folder"):
        writable_folder(tmp_path / "out")
    with pytest.raises(LabError, match="did not write"):
        model_in(tmp_path / "out", "new")
    assert everything_in(tmp_path) == before and sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_second_merge_into_its_own_folder_is_refused(tmp_path):
    """And new and empty folders must be taken, by any name."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "größer 漢字 [x]*", "below/the/new"):
        model_in(tmp_path / name, "first")
        (tmp_path / name / ".DS_Store").write_text("the file manager was here")
        model_in(tmp_path / name, "second")
        assert (tmp_path / name / "model.safetensors").read_text() == "second"
        assert sorted(everything_in(tmp_path / name)) == sorted(
            [LIST, "config.json", "model.safetensors", "more/tokenizer.json"]
        )


def test_an_edited_model_card_is_replaced_by_the_next_merge(tmp_path):
    model_in(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text("[]")  # as long as before
    with pytest.raises(LabError, match=r"config\.json"):
        model_in(tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == "[]"


def test_a_file_that_comes_while_the_model_is_made_is_deleted(tmp_path):
    model_in(tmp_path / "out")
    with pytest.raises(LabError, match=r"changed in the meantime: thesis\.tex"), atomic_folder(tmp_path / "out"):
        thesis(tmp_path / "out")
    assert {"thesis.tex", "model.safetensors"} < everything_in(tmp_path / "out").keys()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_an_earlier_version_cannot_be_gone_on_with(tmp_path):
    """It has no list; its writer knows its names."""
    strangers_model(Path(tmp_path))
    (tmp_path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-1" / "optimizer.pt").write_text("")
    known = ("config.json", "model.safetensors", "checkpoints")
    assert writable_folder(tmp_path, known=known) == tmp_path.resolve()
    with pytest.raises(LabError, match="checkpoints/"):
        writable_folder(tmp_path, known=known[:2])
    model_in(tmp_path, "new", known=known)
    assert (tmp_path / "model.safetensors").read_text() == "new" and not (tmp_path / "checkpoints").exists()


def test_a_report_written_beside_notes_replaces_them(tmp_path):
    """A report is put into a folder file by file: the notes stay, and index.html must not be somebody else's."""
    pages = ("index.html", "1_data.html")
    (tmp_path / "notes.md").write_text("mine")
    for _ in range(2):
        folder = writable_folder(tmp_path, writes=pages)
        claim(folder, pages)  # killed from here on, the same command may go on
        write_text(folder / "index.html", "<p>")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("my home page")
    with pytest.raises(LabError, match=r"index\.html"):
        writable_folder(tmp_path / "other", writes=pages)
    with pytest.raises(LabError, match=r"index\.html"):  # a folder of that name
        (tmp_path / "third" / "index.html").mkdir(parents=True)
        writable_folder(tmp_path / "third", writes=pages)


def test_finetune_into_a_folder_that_holds_best(tmp_path):
    (tmp_path / "out" / "best").mkdir(parents=True)
    with pytest.raises(LabError, match="best/"):
        writable_folder(tmp_path / "out", writes=("run.json", "checkpoints", "best"))


@pytest.mark.parametrize("name", ["", ".", "..", "/", "sub/..", "~here"])
def test_out_that_is_the_working_folder_is_deleted(name, tmp_path, monkeypatch):
    (tmp_path / "here" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    name = str(tmp_path / "here") if name == "~here" else name
    for options in ({}, {"writes": ("index.html",)}):
        with pytest.raises(LabError, match=r"folder you work in.*→ name"):
            writable_folder(name, **options)
    with pytest.raises(LabError, match="folder you work in"):
        model_in(Path(name))
    with pytest.raises(LabError, match="it is a folder → name a file"):
        writable_file(name)
    assert (tmp_path / "here" / "sub").is_dir()


UNUSABLE = {
    "a" * 256: "name too long",
    "ä" * 128: "name too long",
    "new/" + "a" * 256 + "/x": "name too long",
    "file/x": "Not a directory",
    "file/new/x": "Not a directory",
    "loop": "symbolic links",
    "loop/x": "symbolic links",
    "dangling-folder/../file/x": "Not a directory",
    "a\0b": "null",
    "\ud83d": "surrogates",
}


@POSIX
@pytest.mark.parametrize("name", UNUSABLE, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("rule", [writable_file, writable_folder])
def test_an_impossible_name_is_a_traceback_or_found_after_the_work(name, rule, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling-folder").symlink_to("nowhere")
    with pytest.raises(LabError, match=f"(?i){UNUSABLE[name]}.*→ ") as caught:
        rule(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling-folder", "file", "loop"]


@POSIX
@pytest.mark.parametrize("rule", [writable_file, writable_folder])
def test_a_place_where_nothing_can_be_made_is_found_after_the_work(rule, tmp_path, monkeypatch):
    places = [Path("/proc/labkit/new")] if Path("/proc").is_dir() else []
    (tmp_path / "shut").mkdir(mode=0o500)
    if not ROOT:  # root may write there
        places.append(tmp_path / "shut" / "new")
    for place in places:
        with pytest.raises(LabError, match=r"cannot write .*→ choose another folder"):
            rule(place)

    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(LabError, match="Read-only file system → choose another folder"):
        rule(tmp_path / "new")


def test_a_file_where_a_folder_is_wanted_is_moved_away(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LabError, match="it is a file, not a folder"):
        model_in(tmp_path / "file")
    with pytest.raises(LabError, match="it is a folder"):
        write_text(tmp_path, "x")
    assert (tmp_path / "file").read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["file"]


@POSIX
def test_a_link_to_a_folder_is_replaced_and_its_target_never_written(tmp_path):
    """So a model lands on the disk that the link leads to."""
    for name, there in (("link", True), ("dangling", False)):
        disk = tmp_path / f"disk-{name}"
        if there:
            disk.mkdir()
        (tmp_path / name).symlink_to(disk)
        for weights in ("first", "second"):
            with atomic_folder(tmp_path / name) as partial:
                assert partial.parent == tmp_path and partial.name.startswith(f".{disk.name}.")
                (partial / "model.safetensors").write_text(weights)
        assert (tmp_path / name).is_symlink() and (disk / "model.safetensors").read_text() == "second"


# --- files ------------------------------------------------------------------------------------------------------------


@POSIX
def test_a_link_to_a_file_is_replaced_and_its_target_never_written(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old.json").write_text("old")
    (tmp_path / "link.json").symlink_to("disk/old.json")
    (tmp_path / "dangling.json").symlink_to("disk/new/new.json")
    (tmp_path / "twice.json").symlink_to("link.json")
    for name, target in (("link", "old"), ("dangling", "new/new"), ("twice", "old")):
        write_json(tmp_path / f"{name}.json", name)
        assert (tmp_path / f"{name}.json").is_symlink()
        assert read_json(tmp_path / "disk" / f"{target}.json") == name
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["new", "old.json"]


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_device_becomes_a_regular_file(tmp_path):
    """As root it did. Devices are tried through links first, so that a failure of this test breaks no machine."""
    for device in ("null", "full"):
        (tmp_path / device).symlink_to(f"/dev/{device}")
        assert writable_file(tmp_path / device, kinds=(".json",)) == tmp_path / device
    write_text(tmp_path / "null", "x")
    with pytest.raises(LabError, match="No space left on device"):
        write_text(tmp_path / "full", "x")
    assert (tmp_path / "null").is_symlink() and stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    write_text("/dev/null", "x")
    with pytest.raises(LabError, match="it is a file, not a folder"):
        model_in(tmp_path / "null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not [path for path in Path("/dev").iterdir() if path.name.startswith((".null.", ".full."))]


@POSIX
def test_what_is_written_to_stdout_or_a_pipe_is_lost(tmp_path):
    code = "from labkit.storage import write_text; print('card'); write_text('/dev/stdout', 'json')"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "card\njson"
    with (tmp_path / "log").open("w") as file:
        subprocess.run(run, stdout=file, check=True)
    assert (tmp_path / "log").read_text() == "card\njson"
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", "whole")
        assert reader.stdout.read() == "whole"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_predictions_written_over_a_thesis(tmp_path):
    """An own file is replaced; a file that was made empty (mktemp) and a new one by any name are taken."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LabError, match=r"no \.json file that labkit wrote → choose another name"):
        writable_file(tmp_path / "thesis.tex", kinds=(".json",))
    (tmp_path / "empty.tmp").touch()
    write_json(tmp_path / "own.json", {})
    for name in ("empty.tmp", "new.predictions", "own.json"):
        assert writable_file(tmp_path / name, kinds=(".json",)) == (tmp_path / name).resolve()


@POSIX
@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_write_protected_file_is_replaced(tmp_path):
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / "kept.json").chmod(0o400)
    with pytest.raises(LabError, match="write-protected"):
        write_json(tmp_path / "kept.json", {})


@POSIX
def test_others_cannot_read_the_adapter(tmp_path):
    """safetensors makes files for their owner only. A file whose permissions somebody chose keeps them."""
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "adapter") as partial:
            os.close(os.open(partial / "adapter_model.safetensors", os.O_CREAT, 0o600))
            (partial / "config.json").write_text("{}")
        write_json(tmp_path / "private.json", {})
        (tmp_path / "private.json").chmod(0o600)
        write_json(tmp_path / "private.json", {})
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "adapter").iterdir()}
    assert modes == dict.fromkeys(("adapter_model.safetensors", "config.json", LIST), 0o640)
    assert (tmp_path / "adapter").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "private.json").stat().st_mode & 0o777 == 0o600


def test_half_an_emoji_stops_the_file_after_all_replies_were_made(tmp_path):
    value = {"\ud83d": "ä 漢"}
    assert read_json(write_json(tmp_path / "p.json", value)) == value
    with pytest.raises(LabError, match="half a character"):
        write_text(tmp_path / "x", "\ud83d")
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_lines_end_otherwise_on_windows(tmp_path):
    assert write_text(tmp_path / "x", "a\nb\n").read_bytes() == b"a\nb\n"


# --- checkpoints ------------------------------------------------------------------------------------------------------

DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "of another step": lambda path: path.write_bytes(b"x" * path.stat().st_size),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_gone_on_with(how, name, tmp_path):
    """Though the older one is whole. A checkpoint that an earlier version wrote has no list, and is taken as before."""
    assert last_checkpoint(tmp_path / "none") is None
    for step in (9, 10):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        for file in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
            (checkpoint / file).write_text(f"{file} {step}")
        write_json(checkpoint / "trainer_state.json", {"global_step": step})
        assert last_checkpoint(tmp_path) == str(checkpoint)
        seal(checkpoint)
        assert last_checkpoint(tmp_path) == str(checkpoint)
    for other in ("checkpoint-x", "checkpoint-", "checkpoint-99"):
        (tmp_path / other).mkdir()
    DAMAGE[how](tmp_path / "checkpoint-10" / name)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


# --- kills and power cuts ---------------------------------------------------------------------------------------------


def test_a_power_cut_after_the_rename_leaves_an_empty_file(tmp_path, monkeypatch):
    """Each file is forced to the disk before it is renamed, and the folder's own names afterwards."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(number: int) -> None:
        status = os.fstat(number)
        same = [path for path in [tmp_path, *tmp_path.rglob("*")] if os.path.samestat(path.stat(), status)]
        seen.append(f"sync {same[0].name.lstrip('.').split('.')[0]}")
        fsync(number)

    def renamed(old: Path, new: Path) -> None:
        seen.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "x.json", "x")
    root = tmp_path.name if os.name != "nt" else None
    assert seen == ["sync x", "rename", *([f"sync {root}"] if root else [])]
    seen.clear()
    model_in(tmp_path / "model")
    before, after = seen[: seen.index("rename")], seen[seen.index("rename") + 1 :]
    assert {"sync config", "sync model", "sync tokenizer", "sync labkit"} <= set(before)
    assert not root or (after == [f"sync {root}"] and {"sync model", "sync more"} <= set(before))


@POSIX
def test_leftovers_of_killed_runs_stay_for_good(tmp_path):
    """And those of a run that is still at work, or of another's file, go."""
    code = "import os, signal, sys; from labkit.storage import *\n"
    code += "with {}(sys.argv[1]) as partial:\n (partial / 'x' if partial.is_dir() else partial).write_text('x')\n"
    code += " os.kill(os.getpid(), signal.SIGKILL)"
    for kind, name in (("atomic_path", "a.json"), ("atomic_folder", "best")):
        run = subprocess.run([sys.executable, "-c", code.format(kind), str(tmp_path / name)])
        assert run.returncode == -signal.SIGKILL
    assert sorted(path.name.rpartition(".")[0] for path in tmp_path.iterdir()) == [".a.json", ".best"]
    mine = storage._partial(tmp_path / "a.json")
    elsewhere = mine.with_name(f".a.json.{storage._machine() ^ 1:08x}{mine.name[-16:]}")
    others = [tmp_path / name for name in (".a.json.bak", f".b.{mine.name[-24:]}", ".a.json.0123abcd")]
    for path in (mine, elsewhere, *others):
        path.write_text("x")
    write_json(tmp_path / "a.json", {})
    model_in(tmp_path / "best")
    kept = {path.name for path in (mine, elsewhere, *others)}
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "best"} | kept
    old = time.time() - 2 * storage.A_DAY
    os.utime(elsewhere, (old, old))
    write_json(tmp_path / "a.json", {})
    assert not elsewhere.exists() and mine.exists()


@POSIX
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_stopped_between_two_renames_the_best_adapter_is_gone(how, tmp_path):
    model_in(tmp_path / "best", "the best so far")
    stop = "os.kill(os.getpid(), signal.SIGKILL)" if how == "kill" else "raise KeyboardInterrupt"
    code = f"""if 1:
        import os, signal, sys
        from labkit import storage
        replace = os.replace
        def stop(old, new):
            if str(new) == sys.argv[1] and not str(old).endswith(".old"):
                {stop}
            replace(old, new)
        os.replace = stop
        with storage.atomic_folder(sys.argv[1]) as partial:
            (partial / "model.safetensors").write_text("new")
        """
    run = subprocess.run([sys.executable, "-c", code, str((tmp_path / "best").resolve())], capture_output=True)
    assert run.returncode
    remove_leftovers(tmp_path / "best")
    assert (tmp_path / "best" / "model.safetensors").read_text() == "the best so far"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_full_disk_takes_the_old_folder_along(tmp_path):
    model_in(tmp_path / "out", "old")
    with pytest.raises(LabError, match="No space left"), atomic_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "out" / "model.safetensors").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_between_two_files_the_old_settings_are_shown_with_new_predictions(tmp_path):
    predictions, run = tmp_path / "p.json", tmp_path / "p.run.json"
    write_json(predictions, {"a": []})
    write_record(run, {"model": "old"}, about=predictions)
    assert read_record(run, about=predictions) == {"model": "old"}
    write_json(predictions, {"a": ["new"]})  # and killed here
    assert read_record(run, about=predictions) == {}
    write_record(run, {"model": "new"}, about=predictions)
    assert read_record(run, about=predictions) == {"model": "new"}
    assert read_json(run)["sha256"] == sha256(predictions)
    assert read_record(write_json(run, {"model": "earlier version"}), about=predictions) == {"model": "earlier version"}
    assert read_record(tmp_path / "none.json", about=predictions) == {}
    for value in (None, [], 3, "x"):
        with pytest.raises(LabError, match="no record of a run"):
            read_record(write_json(run, value), about=predictions)


def test_an_interrupted_file_is_half_written(tmp_path):
    write_text(tmp_path / "x", "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_written_can_be_read_by_others(tmp_path):
    """mkstemp's files are for their owner only, and a report has readers."""
    from labkit.storage import write_text

    before = os.umask(0o022)
    try:
        assert write_text(tmp_path / "new" / "report.html", "x").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
