from __future__ import annotations

import cv2
import numpy as np
import pytest
from real_data import REAL
from skimage.metrics import structural_similarity

from dermprompt.evaluation import image
from dermprompt.evaluation.overlap import dice


def pictures(n: int, size: tuple[int, int] = (96, 80), seed: int = 0) -> np.ndarray:
    """Smooth random pictures, so that structure terms matter."""
    noise = np.random.default_rng(seed).integers(0, 256, (n, *size, 3)).astype(np.uint8)
    smooth = [cv2.GaussianBlur(picture, (0, 0), 2).astype(float) for picture in noise]
    return np.stack([np.clip((picture - 127) * 5 + 127, 0, 255) for picture in smooth]).astype(np.uint8)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    real, other = pictures(4), pictures(4, seed=1)
    return real, (0.6 * real + 0.4 * other).astype(np.uint8)


def test_mse_of_a_constant_offset() -> None:
    real = np.full((2, 8, 8, 3), 100, np.uint8)
    generated = real + np.array([51, 102], np.uint8)[:, None, None, None]
    np.testing.assert_allclose(image.mse(real, generated), [0.2**2, 0.4**2])


@pytest.mark.parametrize("peak", [1, 255])
def test_psnr_equals_opencv(pair: tuple[np.ndarray, np.ndarray], peak: float) -> None:
    want = [cv2.PSNR(a / 255, b / 255, peak) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(image.psnr(image.mse(*pair), peak), want, atol=1e-6)


def test_psnr_of_equal_images_is_finite_as_in_opencv(pair: tuple[np.ndarray, np.ndarray]) -> None:
    real = pair[0][:1]
    assert image.psnr(image.mse(real, real), peak=1)[0] == pytest.approx(cv2.PSNR(real[0] / 255, real[0] / 255, 1))


@pytest.mark.parametrize("data_range", [1.0, 2.0])
@pytest.mark.parametrize(
    ("window", "options"),
    [
        ("uniform7", {"win_size": 7}),
        ("gaussian", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
    ],
)
def test_ssim_equals_scikit_image(
    pair: tuple[np.ndarray, np.ndarray], window: image.Window, options: dict, data_range: float
) -> None:
    want = [
        structural_similarity(a / 255, b / 255, channel_axis=-1, data_range=data_range, **options)
        for a, b in zip(*pair, strict=True)
    ]
    np.testing.assert_allclose(image.ssim(*pair, window=window, data_range=data_range), want, atol=1e-6)


@pytest.mark.parametrize("size", [(512, 512), (256, 256), (600, 700)])
def test_paper_protocol_equals_the_released_script(size: tuple[int, int]) -> None:
    """In BGR and float32, as the script has it: file by file, with the libraries' defaults of the time."""
    real, generated = pictures(2, size), pictures(2, size, seed=1)
    rows = []
    for pair in zip(real, generated, strict=True):
        a, b = (cv2.resize(x[..., ::-1].copy(), (512, 512))[32:480, 32:480].astype("f4") / 255 for x in pair)
        similarity = structural_similarity(a, b, channel_axis=-1, data_range=2.0)
        rows.append(((a - b) ** 2).mean())
        rows.extend((cv2.PSNR(a, b), similarity))
    want = np.reshape(rows, (2, 3)).mean(axis=0)
    got = image.paper_protocol(real, generated)
    assert list(got) == ["mse", "psnr", "ssim"]
    np.testing.assert_allclose(list(got.values()), want, atol=1e-5)


def test_paper_protocol_ignores_the_frame() -> None:
    real = pictures(1, (512, 512))
    generated = real.copy()
    generated[:, :32] = generated[:, 480:] = generated[:, :, :32] = generated[:, :, 480:] = 0
    assert image.paper_protocol(real, generated)["mse"] == 0
    assert image.standard_protocol(real, generated)["mse"] > 0


def test_standard_protocol_takes_means_over_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    real, generated = pair
    rows = [image.standard_protocol(real[k : k + 1], generated[k : k + 1]) for k in range(len(real))]
    for name, value in image.standard_protocol(real, generated).items():
        assert value == pytest.approx(np.mean([row[name] for row in rows]))
    assert image.standard_protocol(real, real)["ssim"] == pytest.approx(1)


def test_metrics_do_not_depend_on_the_channel_order(pair: tuple[np.ndarray, np.ndarray]) -> None:
    real, generated = pair
    flipped = image.paper_protocol(real[..., ::-1].copy(), generated[..., ::-1].copy())
    assert flipped == pytest.approx(image.paper_protocol(real, generated))


def test_trivial_rows_are_what_they_are_called() -> None:
    test, real_g = pictures(5), pictures(7, seed=1)
    masks_g = np.random.default_rng(0).integers(0, 2, (7, 96, 80)).astype(np.uint8)
    picks = [6, 2, 2, 0, 5]
    other, mean, fitting, colour = image.trivial_rows(test, masks_g[picks], real_g, masks_g, seed=3).values()
    assert all(any((row == g).all() for g in real_g) for row in other)
    np.testing.assert_array_equal(mean, np.broadcast_to(real_g.mean(0).round(), mean.shape))
    np.testing.assert_array_equal(fitting, real_g[picks])
    np.testing.assert_allclose(colour[:, 5, 5], test.mean(axis=(1, 2)), atol=0.5)
    assert (colour == colour[:, :1, :1]).all()
    assert {row.shape for row in (other, mean, fitting, colour)} == {test.shape}
    assert {row.dtype for row in (other, mean, fitting, colour)} == {np.dtype(np.uint8)}


def test_a_trivial_row_depends_on_the_index_and_the_seed_alone() -> None:
    test, real_g, masks = pictures(6), pictures(50, seed=1), np.ones((50, 96, 80), np.uint8)
    name = "another real image"
    six = image.trivial_rows(test, masks[:6], real_g, masks, seed=0)[name]
    four = image.trivial_rows(test[:4], masks[:4], real_g, masks, seed=0)[name]
    np.testing.assert_array_equal(six[:4], four)
    assert (image.trivial_rows(test, masks[:6], real_g, masks, seed=1)[name] != six).any()


def read(part: str, names: list[str], flag: int) -> np.ndarray:
    return np.stack([cv2.imread(str(REAL / "isic2018" / part / name), flag) for name in names])


@pytest.mark.real_data("isic2018")
def test_trivial_rows_reach_the_papers_numbers_on_real_images() -> None:
    """The same measured on ISIC 2017's test images: mse, psnr and ssim, paper's protocol."""
    reference = {
        "another real image": (0.048, 62.64, 0.790),
        "mean image of G": (0.024, 65.77, 0.883),
        "the image's own mean colour (oracle)": (0.016, 69.32, 0.895),
    }
    ids = [path.stem for path in sorted((REAL / "isic2018" / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))[::20]]
    real = read("ISIC2018_Task1-2_Training_Input", [f"{id}.jpg" for id in ids], cv2.IMREAD_COLOR)
    files = [f"{id}_segmentation.png" for id in ids]
    masks = read("ISIC2018_Task1_Training_GroundTruth", files, cv2.IMREAD_GRAYSCALE) // 255
    test, g = slice(0, None, 4), np.arange(len(ids)) % 4 > 0
    rows = image.trivial_rows(real[test], masks[test], real[g], masks[g], seed=0)
    for name, (mse, psnr, ssim) in reference.items():
        got = image.paper_protocol(real[test], rows[name])
        assert got["mse"] == pytest.approx(mse, abs=0.012)
        assert got["psnr"] == pytest.approx(psnr, abs=1.5)
        assert got["ssim"] == pytest.approx(ssim, abs=0.05)
    fit = dice(masks[test], masks[g][[0] * len(masks[test])]).mean()
    assert image.dice_matrix(masks[test], masks[g]).max(axis=1).mean() > fit + 0.2
