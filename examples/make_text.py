"""Draws the pictures that the text detector is audited on; needs Pillow.

python make_text.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

LINES = (("does it turn", "when the atoms", "turn with it?"), ("shift me,", "and find me", "where I was"))

for number, lines in enumerate(LINES, 1):
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        draw.text((16, 22 + 30 * k), line, fill="black", font_size=14)
    image.save(Path(__file__).with_name(f"text_{number}.png"))
