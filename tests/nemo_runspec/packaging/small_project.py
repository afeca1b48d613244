"""A project with a recipe whose modules import each other in every way that Python has."""

import subprocess
from pathlib import Path

RECIPE = {
    "recipe/__init__.py": "",
    "recipe/first.py": """
        from recipe import second

        def ping(count):
            return second.pong(count - 1) if count else "first"
    """,
    "recipe/second.py": """
        from recipe import first

        def pong(count):
            return first.ping(count - 1) if count else "second"
    """,
    "recipe/stars/__init__.py": """
        __all__ = ["LIGHT", "planets"]
        LIGHT = "light"
        HIDDEN = "hidden"
    """,
    "recipe/stars/planets.py": "NAMES = ['mars']",
    "recipe/late.py": """
        def check(count):
            if count < 0:
                raise ValueError(f"{count} is negative")  # in late.py
    """,
    "recipe/left/__init__.py": "from .parts import SIDE",
    "recipe/left/parts.py": "SIDE = 'left'",
    "recipe/right/__init__.py": "from .parts import SIDE",
    "recipe/right/parts.py": "from . import helper\nSIDE = helper.SIDE",
    "recipe/right/helper.py": "SIDE = 'right'",
    "recipe/stage0/helper.py": "SIDE = 'beside'",
    "recipe/stage0/data_prep.py": """
        import json
        import multiprocessing
        import os
        import sys
        from pathlib import Path
        from typing import TYPE_CHECKING

        import helper
        from nemo_runspec.script import load_train_config, run_script
        from recipe import left
        from recipe.first import ping
        from recipe.right import parts
        from recipe.stars import *

        if TYPE_CHECKING:
            import a_package_for_checkers_only

        def square(number: int) -> int:
            return number * number

        def main(path: Path) -> None:
            config = load_train_config(path)
            os.chdir("/")
            from recipe import late

            late.check(config["count"])  # in data_prep.py
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                squares = pool.map(square, [config["count"]])
            print(json.dumps([helper.SIDE, left.SIDE, parts.SIDE, LIGHT, planets.NAMES, ping(3), squares]))

        if __name__ == "__main__":
            run_script(main)
    """,
}
ANSWER = '["beside", "left", "right", "light", ["mars"], "second", [9]]\n'


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("".join(f"{line[margin:].rstrip()}\n" for line in lines))


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, timeout=60)
