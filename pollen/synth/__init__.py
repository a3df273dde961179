"""Realistic Alexander-stained micrographs with exactly known truth.

`render(FrameSpec(...), seed)` draws one frame; `random_spec(rng)` draws a spec like the
real data; `sample_frames` and `write_samples` make the small set the demo shows.
"""

from pollen.synth.demo_pictures import sample_frames, write_frame, write_samples
from pollen.synth.random_specs import random_spec
from pollen.synth.scene import render
from pollen.synth.spec import Debris, EmptyLook, EmptySlide, FrameSpec, Optics, Stain
from pollen.synth.truth import RenderedFrame, TrueGrain

__all__ = [
    "Debris",
    "EmptyLook",
    "EmptySlide",
    "FrameSpec",
    "Optics",
    "RenderedFrame",
    "Stain",
    "TrueGrain",
    "random_spec",
    "render",
    "sample_frames",
    "write_frame",
    "write_samples",
]
