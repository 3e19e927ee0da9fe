import numpy as np
import pytest

from common.images import batching


def unchanged(images, rng):
    return images


def numbered(count, height=4, width=3, channels=2):
    """Images in which every pixel is different."""
    size = count * height * width * channels
    return np.arange(size, dtype="int32").reshape(count, height, width, channels)


class TestImageBatches:
    def test_each_pass_shows_images_once_in_an_order_of_its_own(self):
        images, labels = numbered(10), np.arange(10)
        batches = batching.ImageBatches(images, labels, 3, 0, unchanged)
        assert batches.steps_per_pass == 3
        passes = []
        for number in range(3):
            steps = [batches.batch(3 * number + position) for position in range(3)]
            for x, y in steps:
                np.testing.assert_array_equal(x, images[y])
            seen = [int(label) for _, y in steps for label in y]
            assert len(set(seen)) == 9
            passes.append(seen)
        assert len({tuple(seen) for seen in passes}) == 3

    def test_a_batch_follows_from_seed_and_step_alone(self):
        def make(seed):
            crop = lambda images, rng: batching.random_crop(images, rng, 1)  # noqa: E731
            return batching.ImageBatches(numbered(20), np.arange(20), 8, seed, crop)

        one, other = make(0), make(0)
        one.batch(0), one.batch(1)
        for got, expected in zip(one.batch(3), other.batch(3), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert not np.array_equal(one.batch(3)[0], make(1).batch(3)[0])
        assert not np.array_equal(one.batch(3)[0], one.batch(1)[0])

    def test_too_large_batches(self):
        with pytest.raises(ValueError, match="must not exceed the 10 training images.*size 11"):
            batching.ImageBatches(numbered(10), np.arange(10), 11, 0, unchanged)


class TestAugmentation:
    def test_random_crop_cuts_out_of_the_padded_image(self):
        images = numbered(200) + 1
        cropped = batching.random_crop(images, np.random.default_rng(0), 1)
        assert cropped.shape == images.shape
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
        places = []
        for one, source in zip(cropped, padded, strict=True):
            found = [
                (top, left)
                for top in range(3)
                for left in range(3)
                if np.array_equal(one, source[top : top + 4, left : left + 3])
            ]
            assert len(found) == 1
            places += found
        assert set(places) == {(top, left) for top in range(3) for left in range(3)}

    def test_random_flip_turns_about_half_of_the_images(self):
        images = numbered(400)
        flipped = batching.random_flip(images, np.random.default_rng(0))
        turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
        same = [np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
        assert np.array_equal(turned, np.logical_not(same))
        assert 150 < sum(turned) < 250

    def test_crop_and_flip_pads_by_two(self):
        images = np.full((500, 4, 4, 1), 7, "uint8")
        changed = batching.crop_and_flip(images, np.random.default_rng(0))
        assert {(image == 7).sum() for image in changed} == {4, 6, 8, 9, 12, 16}

    def test_random_stretch_repeats_means_of_neighbours(self):
        """A row that is inserted between two lies between them; others keep their order."""
        ramp = np.broadcast_to(np.arange(0, 60, 10)[:, None, None], (6, 5, 1))
        images = np.repeat(ramp[np.newaxis], 300, 0).astype("uint8")
        stretched = batching.random_stretch(images, np.random.default_rng(0))
        assert stretched.shape == images.shape
        assert stretched.dtype == "uint8"
        assert (stretched == stretched[:, :, :1]).all()  # the same in every column
        steps = np.diff(stretched[:, :, 0, 0].astype(int), axis=1)
        assert set(np.unique(steps)) <= {2, 3, 5, 10}  # 10 / 4 rounds either way
        assert (steps < 10).any(axis=1).mean() > 0.5

    def test_random_stretch_of_one_row(self):
        image = np.array([0, 10, 30], "float32").reshape(1, 3, 1, 1)
        seen = set()
        for seed in range(20):
            row = batching._insert(image, 1, np.random.default_rng(seed))
            seen.add(tuple(row.ravel().tolist()))
        assert seen == {(0, 5, 10, 30), (0, 10, 20, 30)}
