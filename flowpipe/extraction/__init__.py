"""VideoRecord + recipe + Ops -> EncodedPlanes: the half of the project that fills stores."""
