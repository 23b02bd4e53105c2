"""VideoRecord + recipe + Ops -> EncodedPlanes: one video through the stages of extraction."""
