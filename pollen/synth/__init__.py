"""Realistic Alexander-stained micrographs with exactly known truth.

`render(FrameSpec(...), seed)` draws one frame; `FrameSpec.random(rng)` draws a spec like the
real data; `sample_frames` and `write_samples` make the small set the demo shows.
"""

from pollen.synth.demo_pictures import sample_frames, write_frame, write_samples
from pollen.synth.scene import render
from pollen.synth.spec import Background, Debris, EmptyLook, FrameSpec, Optics, Stain
from pollen.synth.truth import RenderedFrame, TrueGrain

__all__ = [
    "Background",
    "Debris",
    "EmptyLook",
    "FrameSpec",
    "Optics",
    "RenderedFrame",
    "Stain",
    "TrueGrain",
    "render",
    "sample_frames",
    "write_frame",
    "write_samples",
]
