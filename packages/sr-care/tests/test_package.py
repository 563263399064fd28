import subprocess
import sys

import sr_care


def test_importing_loads_neither_torch_nor_matplotlib_nor_a_sibling(tmp_path):
    heavy = "{'torch', 'matplotlib', 'sr_core', 'sr_reward', 'sr_monitor', 'sr_cli'}"
    code = f"import sys, sr_care; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_every_exported_name_exists_and_is_documented():
    for name in sr_care.__all__:
        value = getattr(sr_care, name)
        assert not isinstance(value, type) or value.__doc__, name
