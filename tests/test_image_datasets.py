import os
import sys

import numpy as np
import pytest

from common.images import datasets

PREPARED = os.environ.get("TFDS_DATA_DIR", "")


class TestDigits:
    def test_split(self):
        data = datasets.load_images("digits")
        test = data.test()
        parts = (data.train, data.validation, test)
        assert [len(images) for images, _ in parts] == [1258, 180, 359]
        for images, labels in parts:
            assert images.shape[1:] == data.image_shape == (8, 8, 1)
            assert (images.dtype, labels.dtype) == ("uint8", "int32")
            assert (images.min(), images.max()) == (0, 255)
            assert set(labels) == set(range(10))
        assert data.classes == 10
        assert "1,258 images to train, 180 to validate" in data.description

    def test_no_image_is_in_two_parts(self):
        from sklearn.datasets import load_digits

        data = datasets.load_images("digits")
        rows = np.concatenate([p[0].reshape(-1, 64) for p in (data.train, data.validation)])
        rows = np.concatenate([rows, data.test()[0].reshape(-1, 64)]) * (16 / 255)
        order = np.lexsort(rows.T)
        original = load_digits().data
        np.testing.assert_allclose(rows[order], original[np.lexsort(original.T)], atol=0.05)

    def test_the_same_every_time(self):
        digests = {datasets.load_images("digits").sha256 for _ in range(2)}
        assert len(digests) == 1

    def test_without_scikit_learn(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ValueError, match="pip install scikit-learn.*'mnist'"):
            datasets.load_images("digits")


class TestTensorflowDatasets:
    def test_split(self):
        """Of CIFAR-10 `test_image_examples` reads the number of training images."""
        if not os.path.isdir(os.path.join(PREPARED, "mnist")):
            pytest.skip("TFDS_DATA_DIR has no mnist")
        data = datasets.load_images("mnist")
        assert data.image_shape == (28, 28, 1)
        assert [len(data.train[1]), len(data.validation[1])] == [55_000, 5_000]
        assert len(data.test()[0]) == 10_000
        assert data.classes == 10

    def test_unknown(self):
        with pytest.raises(ValueError, match="must be one of mnist.*digits. Received: 'svhn'"):
            datasets.load_images("svhn")
