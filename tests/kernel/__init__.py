"""Tests on guests that run stock kernels."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent.parent / "_utils"
DRIVER = HERE / "driver.py"
