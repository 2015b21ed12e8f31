"""What runs only on the device that MAMBA2_LAB_DEVICE names is not even collected elsewhere."""

from support.devices import DEVICE, NAME

collect_ignore = []
if DEVICE.type == "cpu":
    collect_ignore.append("test_on_device.py")
if NAME != "emulated-mps":
    collect_ignore += [
        "test_emulated_counts.py",
        "test_emulated_inductor.py",
        "test_emulated_faults.py",
        "test_emulated_proofs.py",
    ]
