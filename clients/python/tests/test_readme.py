"""The README's examples: they run, print what stands there, and their types are right."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[1]


class Readme(unittest.TestCase):
    def setUp(self) -> None:
        text = (ROOT / "README.md").read_text()
        self.code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))

    def test_the_examples_print_what_they_say(self) -> None:
        stated = re.findall(r"^ *# => (.*)$", self.code, re.MULTILINE)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", self.code],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.assertEqual((done.returncode, done.stdout.splitlines()), (0, stated), done.stderr)
        self.assertTrue(stated)

    def test_the_types_are_right(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            example = pathlib.Path(folder) / "example.py"
            example.write_text(self.code)
            cache = f"--cache-dir={folder}/cache"
            done = subprocess.run(
                [sys.executable, "-m", "mypy", cache, "src", "tests", str(example)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=600,
            )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
