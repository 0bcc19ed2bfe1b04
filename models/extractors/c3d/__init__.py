"""C3D: clip features of 16 consecutive frames (Tran et al., ICCV 2015)."""
