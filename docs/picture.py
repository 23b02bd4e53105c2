"""A store of the demo set -> the picture of the README: docs/demo.jpg.

    flowpipe extract --dataset demo --out demo-store --modalities rgb,flow,warped_flow
    python docs/picture.py demo-store

The clip is ``turn_01``: a patch turns while the camera pans, so that flow shows both motions and
warped flow the patch alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

import flowpipe
from flowpipe.report import contact_sheet

if __name__ == "__main__":
    sheet = contact_sheet(flowpipe.open_store(sys.argv[1]), "turn_01", columns=4)
    picture = Path(__file__).parent / "demo.jpg"
    cv2.imwrite(str(picture), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
