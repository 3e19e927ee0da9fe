import os
import pickle
import zipfile

import numpy as np
import pytest

from common.strokes import array_files, datasets, glyphs

LINE = """<?xml version="1.0" encoding="ISO-8859-1"?>
<WhiteboardCaptureSession><WhiteboardDescription/><StrokeSet>
<Stroke colour="black" start_time="1" end_time="2">
<Point x="100" y="200" time="1"/><Point x="103" y="204" time="1.5"/></Stroke>
<Stroke colour="black" start_time="3" end_time="4">
<Point x="110" y="190" time="3"/></Stroke>
</StrokeSet></WhiteboardCaptureSession>"""
POINTS = [[0, 0, 0], [3, 4, 1], [7, -14, 1]]


def arrays_of(*drawings):
    array = np.empty(len(drawings), object)
    array[:] = drawings
    return array


def save(path, **parts):
    good = arrays_of(np.array(POINTS, "int16"))
    np.savez(path, **{"train": good, "valid": good, "test": good, **parts})
    return str(path)


class TestNpz:
    def test_parts_and_what_is_left_out(self, tmp_path):
        train = [np.full((n, 3), [n, -n, 1], "int16") for n in (2, 3, 7, 9)]
        path = save(tmp_path / "a.npz", train=arrays_of(*train))
        data = datasets.load_drawings(path, min_points=3, max_points=7)
        assert [len(drawing) for drawing in data.train] == [3, 7]
        np.testing.assert_array_equal(data.train[0], [[0, 0, 1], [3, -3, 1], [3, -3, 1]])
        np.testing.assert_array_equal(data.test, [POINTS])
        assert data.scale == pytest.approx(np.std([3, -3] * 2 + [7, -7] * 6))
        assert (data.left_out, data.resolution, data.name) == (2, 1.0, "a.npz")
        assert "2 drawings to train, 1 to validate, 1 to test, 3 to 7 points" in data.description
        assert "(2 others left out)" in data.description
        assert datasets.load_drawings(path).sha256 != data.sha256

    def test_resolution(self, tmp_path):
        path = save(tmp_path / "a.npz", test=arrays_of(np.array(POINTS) + [0.5, 0, 0]))
        assert datasets.load_drawings(path).resolution == 0.0
        assert datasets.load_drawings(path, resolution=6.0).resolution == 6.0

    def test_drawings_of_equal_length_are_one_array(self, tmp_path):
        path = save(tmp_path / "a.npz", train=np.array([POINTS, POINTS], "float32"))
        np.testing.assert_array_equal(datasets.load_drawings(path).train, [POINTS, POINTS])

    @pytest.mark.parametrize("protocol", range(5))
    def test_pickles_of_every_protocol(self, protocol, tmp_path):
        """0 to 2 are what Python 2 has."""
        drawings = arrays_of(np.array(POINTS), np.array(POINTS, "float32"))
        path = tmp_path / "a.npz"
        np.savez(path, train=drawings)
        with (
            zipfile.ZipFile(path, "w") as archive,
            archive.open("train.npy", "w") as file,
        ):
            header = np.lib.format.header_data_from_array_1_0(drawings)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(pickle.dumps(drawings, protocol))
        (found,) = array_files.read_arrays(path, ("train",))
        for one in found:
            np.testing.assert_array_equal(one, POINTS)

    def test_a_file_cannot_run_anything(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "made"),)

        path = save(tmp_path / "a.npz", valid=arrays_of(np.array(POINTS), Evil()))
        with pytest.raises(ValueError, match=r"a\.npz \(UnpicklingError: \w+\.mkdir is not part"):
            datasets.load_drawings(path)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize(
        ("drawing", "fragment"),
        [
            (np.array([[0.0, 0, 0], [1, np.nan, 0]]), r"finite offsets.*nan, 0\.0\] at point 1"),
            (np.array([[0.0, 0, 0], [np.inf, 1, 0]]), "finite offsets"),
            (np.array([[0, 0, 0], [1, 1, 2]]), "pens that are 0 or 1.* at point 1"),
            (np.zeros((0, 3)), "at least one point"),
            (np.zeros((4, 5)), r"\(time, 3\).*shape \(4, 5\)"),
            (np.array([["a", "b", "c"]]), "at least one point"),
            ("a drawing", "at least one point"),
        ],
    )
    def test_what_is_no_drawing(self, drawing, fragment, tmp_path):
        path = save(tmp_path / "a.npz", valid=arrays_of(np.array(POINTS), drawing))
        with pytest.raises(ValueError, match=rf"a\.npz, drawing 1 of 'valid'.*{fragment}"):
            datasets.load_drawings(path)

    def test_files_of_another_form(self, tmp_path):
        rule = "must be an .npz file with the arrays train, valid, test"
        np.savez(tmp_path / "one.npz", train=arrays_of(np.array(POINTS)))
        (tmp_path / "text.npz").write_text("abc")
        whole = save(tmp_path / "whole.npz")
        (tmp_path / "half.npz").write_bytes(open(whole, "rb").read()[:300])
        for name in ("one", "text", "half"):
            with pytest.raises(ValueError, match=rf"{rule}.*{name}\.npz \(\w+: "):
                datasets.load_drawings(str(tmp_path / f"{name}.npz"))
        path = save(tmp_path / "empty.npz", test=arrays_of())
        with pytest.raises(ValueError, match="empty.npz, without one for test"):
            datasets.load_drawings(path)
        path = save(tmp_path / "dots.npz", train=np.zeros((2, 3, 3)))
        with pytest.raises(ValueError, match="deviation that is neither 0 nor infinite"):
            datasets.load_drawings(path)


class TestHandwriting:
    def folder(self, tmp_path, forms=60):
        for n in range(forms):
            folder = tmp_path / f"a{n // 10:02}" / f"a{n // 10:02}-{n:03}"
            folder.mkdir(parents=True)
            for line in (1, 2):
                (folder / f"{folder.name}u-{line:02}.xml").write_text(LINE)
        return folder

    def test_lines(self, tmp_path):
        self.folder(tmp_path)
        data = datasets.load_drawings(str(tmp_path))
        for part in (data.train, data.validation, data.test):
            assert len(part) % 2 == 0  # both lines of a form
            for drawing in part:
                np.testing.assert_array_equal(drawing, POINTS)
        assert len(data.train) + len(data.validation) + len(data.test) == 120
        assert data.resolution == 1.0

    @pytest.mark.parametrize(
        ("text", "fragment"),
        [
            ("<StrokeSet>", "must have strokes of points.*ParseError"),
            (LINE.replace('x="100"', ""), "must have strokes of points.*TypeError"),
            (LINE.replace('"100"', '"a"'), "must have strokes of points.*ValueError"),
            (LINE.replace('"100"', '"nan"'), "must have finite offsets"),
            ("<WhiteboardCaptureSession/>", "must have at least one point"),
        ],
    )
    def test_files_of_another_form(self, text, fragment, tmp_path):
        path = self.folder(tmp_path) / "wrong.xml"
        path.write_text(text)
        with pytest.raises(ValueError, match=fragment) as caught:
            datasets.load_drawings(str(tmp_path))
        assert str(path) in str(caught.value)

    def test_no_files(self, tmp_path):
        with pytest.raises(ValueError, match="without .xml files"):
            datasets.load_drawings(str(tmp_path))


@pytest.fixture(scope="module")
def letters():
    return glyphs.outlines_of_letters()


def test_letters_are_split_by_their_base(letters, monkeypatch):
    monkeypatch.setattr(glyphs, "outlines_of_letters", lambda: letters)  # which takes seconds
    data = datasets.load_drawings()
    parts = data.train, data.validation, data.test
    assert len(data.train) > 8000 and min(map(len, parts)) > 300
    assert data.left_out == 0 and data.resolution == 1.0
    outlines = [drawing.tobytes() for part in parts for drawing in part]
    assert len(set(outlines)) == len(outlines) == sum(map(len, letters.values()))
    parts = [{drawing.tobytes() for drawing in part} for part in parts]
    for base in letters.values():
        same = {drawing.astype("float32").tobytes() for drawing in base}
        assert sum(same <= part for part in parts) == 1


def test_an_outline_is_closed_and_upright(letters):
    assert {chr(n) for n in range(ord("a"), ord("z") + 1)} <= set(letters)
    assert len(letters["e"]) > 300  # with accents, of all fonts
    for outline in letters["o"][:5]:
        points = np.cumsum(outline[:, :2], axis=0)
        for stroke in np.split(points, np.flatnonzero(outline[:, 2]) + 1)[:-1]:
            np.testing.assert_array_equal(stroke[0], stroke[-1])
    # "L": its foot is at the bottom, where y is greatest.
    points = np.cumsum(letters["l"][0][:, :2], axis=0)
    wide = points[points[:, 0] == points[:, 0].max()]
    assert wide[:, 1].max() == points[:, 1].max()
