"""Pictures of many sizes and modes as one array.

If any picture has colour, all become RGB; otherwise they are grey. Alpha is put on white. 16-bit and other deep grey
pictures make all of them float32, in their own units. Sizes are brought to one: that which is asked for, else that of
more than half of the pictures, else the median width and height. A picture of another size is scaled, smoothed as far
as needed, until it covers that size, and cut to it about its centre. Shapes: N pictures, C channels, H × W pixels.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Final, TypeAlias, final

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from limbeck.data.arrays import Array
from limbeck.errors import LimbeckError

_GREY: Final = ("1", "L", "LA", "La")
_DEEP: Final = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TURNED: Final = (5, 6, 7, 8)  # orientations that exchange width and height

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""


@final
@dataclass(frozen=True, kw_only=True)
class Form:
    """What a picture is, as far as its head tells.

    Attributes:
        size: after its orientation is seen to.
        colour: whether it has any; a palette counts as colour.
        deep: whether it is grey of more than 8 bits.
        alpha: whether it is transparent anywhere.
    """

    size: Size
    colour: bool
    deep: bool
    alpha: bool


def form_of(picture: Image.Image, name: str) -> Form:
    """The form of a picture, which ``name`` stands for in an error.

    Raises:
        LimbeckError: an animation, or several pictures in one.
    """
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # phones put a second one behind a JPEG
        raise LimbeckError(
            f"{name} is an animation or holds several pictures ({getattr(picture, 'n_frames', '?')}); save the one "
            "that is meant."
        )
    width, height = picture.size
    if picture.getexif().get(ExifTags.Base.Orientation) in _TURNED:
        width, height = height, width
    mode = picture.mode
    alpha = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info
    return Form(size=(width, height), colour=mode not in (*_GREY, *_DEEP), deep=mode in _DEEP, alpha=alpha)


def form_of_file(path: Path) -> Form:
    """The form of the picture in a file.

    Raises:
        LimbeckError: none that can be read, or several in one.
    """
    try:
        with Image.open(path) as picture:
            return form_of(picture, str(path))
    except LimbeckError:
        raise
    except Exception as error:  # each format has errors of its own
        raise _unreadable(path, error) from error


def picture_of_file(path: Path) -> Image.Image:
    """The picture in a file, decoded; raises LimbeckError for one that cannot be."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> LimbeckError:
    if not path.is_file():
        return LimbeckError(f"There is no picture {path}; give the path of a file.")
    why = (
        "it is none, whatever its name says"
        if isinstance(error, UnidentifiedImageError)
        else " ".join(str(error).split())
    )
    return LimbeckError(f"{path} cannot be read as a picture ({why}); repair or remove it.")


def fit_pictures(
    pictures: Sequence[str | os.PathLike[str] | Image.Image], size: Size, *, colour: bool, deep: bool | None
) -> Array:
    """Pictures in the form that others have already: (N, 3, H, W) or (N, 1, H, W), bytes, or float32 where deep.

    Args:
        pictures: opened, or the paths of their files.
        size: width and height to which they are scaled and cut.
        colour: whether they become RGB; otherwise grey.
        deep: whether the others are grey of more than 8 bits; None where these may be so or not.

    Raises:
        LimbeckError: a picture that cannot be read, or of more than 8 bits where the others have not.
    """
    names = [f"Picture {i}" if isinstance(each, Image.Image) else os.fspath(each) for i, each in enumerate(pictures)]
    forms = [_form_of_given(each, name) for each, name in zip(pictures, names, strict=True)]
    odd = next((name for name, form in zip(names, forms, strict=True) if form.deep), None)
    if odd is not None and deep is False:
        raise LimbeckError(f"{odd} is grey of more than 8 bits, those of the set are not; convert it to 8 bits.")
    deep = deep or odd is not None
    fitted = []
    for each in pictures:
        picture = each if isinstance(each, Image.Image) else picture_of_file(Path(each))
        pixels = np.asarray(_fit(_convert(ImageOps.exif_transpose(picture), colour, deep), size))
        fitted.append(pixels.transpose(2, 0, 1) if colour else pixels[None])
    return np.stack(fitted)


def _form_of_given(picture: str | os.PathLike[str] | Image.Image, name: str) -> Form:
    """That of an opened picture, which is decoded for that, or of a file."""
    if not isinstance(picture, Image.Image):
        return form_of_file(Path(picture))
    try:
        picture.load()
    except Exception as error:  # each format has errors of its own, a closed picture has others
        why = " ".join(str(error).split()) or type(error).__name__
        raise LimbeckError(f"{name} cannot be read ({why}); open a sound one, and leave it open.") from error
    return form_of(picture, name)


def read_pictures(
    picture: Callable[[int], Image.Image], forms: list[Form], what: str, *, size: int | None, name: Callable[[int], str]
) -> Array:
    """All pictures as (N, H, W) or (N, 3, H, W), bytes or float32.

    Args:
        picture: by index, decoded; raises LimbeckError for one that cannot be.
        forms: of all of them.
        what: the data set, in a warning.
        size: pixels along both sides that are asked for; None to take them from the pictures.
        name: of a picture, by index, in an error.

    Raises:
        LimbeckError: deep grey pictures among coloured ones.
    """
    colour, deep = any(form.colour for form in forms), any(form.deep for form in forms)
    if colour and deep:
        odd = next(i for i, form in enumerate(forms) if form.deep)
        other = next(i for i, form in enumerate(forms) if form.colour)
        raise LimbeckError(
            f"{name(odd)} is grey of more than 8 bits, but {name(other)} has colour; convert all to one of the two."
        )
    width, height = common_size([form.size for form in forms], size)
    _tell(forms, None if size else (width, height), what, colour)
    x = np.empty((len(forms), *((3,) if colour else ()), height, width), np.float32 if deep else np.uint8)
    for i in range(len(forms)):
        upright = ImageOps.exif_transpose(picture(i))
        pixels = np.asarray(_fit(_convert(upright, colour, deep), (width, height)))
        x[i] = pixels.transpose(2, 0, 1) if colour else pixels
    return x


def common_size(sizes: list[Size], asked: int | None) -> Size:
    """The size that all pictures are brought to.

    >>> common_size([(8, 8), (8, 8), (9, 6)], None), common_size([(8, 8), (10, 6), (9, 7)], None)
    ((8, 8), (9, 7))
    """
    if asked is not None:
        return asked, asked
    size, count = Counter(sizes).most_common(1)[0]
    if 2 * count > len(sizes):
        return size
    return median_low(width for width, _ in sizes), median_low(height for _, height in sizes)


def _tell(forms: list[Form], size: Size | None, what: str, colour: bool) -> None:
    """One warning for each thing that is done to some of the pictures; of a size that nobody asked for, too."""
    others = sum(form.size != size for form in forms)
    if size and others:
        warnings.warn(
            f"{others} of the {len(forms)} pictures of {what} are of another size and are scaled and cut to {size[0]} "
            f"× {size[1]} (width × height); size=PIXELS asks for another",
            stacklevel=4,
        )
    grey = sum(not form.colour for form in forms)
    if colour and grey:
        warnings.warn(
            f"{grey} of the {len(forms)} pictures of {what} are grey among coloured ones and become RGB", stacklevel=4
        )
    alpha = sum(form.alpha for form in forms)
    if alpha:
        warnings.warn(
            f"{alpha} of the {len(forms)} pictures of {what} are transparent in places and are put on white",
            stacklevel=4,
        )


def _convert(picture: Image.Image, colour: bool, deep: bool) -> Image.Image:
    """One picture in the mode of all of them: RGB, L or F."""
    if deep:
        scale = 1.0 if picture.mode in _DEEP else 257.0  # white stays white beside 16 bits
        values = picture if picture.mode in _DEEP else _on_white(picture).convert("L")
        return Image.fromarray(np.asarray(values).astype(np.float32) * np.float32(scale))
    return _on_white(picture).convert("RGB" if colour else "L")


def _on_white(picture: Image.Image) -> Image.Image:
    if not (picture.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info):
        return picture
    front = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", front.size, "white"), front)


def _fit(picture: Image.Image, size: Size) -> Image.Image:
    return picture if picture.size == size else ImageOps.fit(picture, size, Image.Resampling.BILINEAR)
