#!/usr/bin/env python3
"""Compares what oomph tells of the GPUs of this machine with what nvidia-smi tells.

By hand, on a machine with NVIDIA GPUs:   python3 tests/gpu/nvml_check.py [--oomph PATH] [--seconds 15]

nvidia-smi is asked before and after oomph; a figure that moves agrees when it lies between the two, give or take the
tolerance of its row. The exit status is 0 when everything agrees, 1 when something differs, 2 when nothing could be compared.
With --seconds the helper process is then read for so long, which fills the rates that need two looks.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml

MIB = 1 << 20
# NVML's bits, and the words of nvidia-smi's XML for them.
REASONS = [
    (0x2, "applications_clocks_setting"), (0x4, "sw_power_cap"), (0x8, "hw_slowdown"), (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"), (0x40, "hw_thermal_slowdown"), (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clocks_setting"), (0x1, "gpu_idle"),
]


def run(command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def smi():
    """What nvidia-smi says now, by UUID."""
    answer = run(["nvidia-smi", "-q", "-x"])
    if answer.returncode:
        sys.exit(f"nvidia-smi failed: {answer.stdout}{answer.stderr}")
    return {gpu.findtext("uuid"): gpu for gpu in xml.fromstring(answer.stdout).iter("gpu")}


def nvlinks():
    """Links that are up, by UUID; None where nvidia-smi does not tell."""
    found, here = {}, None
    for line in run(["nvidia-smi", "nvlink", "-s"]).stdout.splitlines():
        if line.startswith("GPU "):
            match = re.search(r"UUID: ([^)]+)\)", line)
            here = match and match.group(1)
        elif here and re.match(r"\s+Link \d+:", line):
            up, every = found.get(here, (0, 0))
            found[here] = (up + ("inactive" not in line.lower()), every + 1)
    return found


def first(gpu, *paths):
    for path in paths:
        text = gpu.findtext(path)
        if text is not None and text.strip() not in ("", "N/A", "[N/A]", "Requested functionality has been deprecated"):
            return text.strip()
    return None


def number(text):
    match = text and re.match(r"-?[\d.]+", text)
    return float(match.group(0)) if match else None


def total(gpu, *paths):
    """The sum of those that are told."""
    all_of = [number(first(gpu, path)) for path in paths]
    told = [n for n in all_of if n is not None]
    return sum(told) if told else None


def total_of(numbers):
    told = list(numbers)
    return sum(told) if told and None not in told else None


def reasons(gpu):
    for name in ("clocks_event_reasons", "clocks_throttle_reasons"):
        group = gpu.find(name)
        if group is not None:
            active = {e.tag.replace("clocks_event_reason_", "").replace("clocks_throttle_reason_", "")
                      for e in group if (e.text or "").strip() == "Active"}
            return sum(bit for bit, word in REASONS if word in active)
    return None


def processes(gpu):
    return sorted(int(p.findtext("pid")) for p in gpu.iter("process_info"))


def rows(ours, before, after, links):
    """Name, oomph's figure, nvidia-smi's before and after, tolerance."""
    def pair(get):
        return get(before), get(after)

    def scaled(path, factor=1.0, *more):
        def get(gpu):
            value = number(first(gpu, path, *more))
            return None if value is None else value * factor
        return pair(get)

    def mib(value):
        return None if value is None else value / MIB

    ecc = "ecc_errors/volatile/"
    yield "name", ours["name"], pair(lambda g: first(g, "product_name")), None
    yield "PCI address", ours["pci_bus_id"].lower(), pair(lambda g: g.get("id").lower()), None
    yield "memory total MiB", mib(ours["memory_total_bytes"]), scaled("fb_memory_usage/total"), 1.01
    yield "memory used MiB", mib(ours["memory_used_bytes"]), scaled("fb_memory_usage/used"), 64
    yield "memory free MiB", mib(ours["memory_free_bytes"]), scaled("fb_memory_usage/free"), 64
    yield "memory reserved MiB", mib(ours["memory_reserved_bytes"]), scaled("fb_memory_usage/reserved"), 1.01
    yield "busy %", ours["utilization_percent"], scaled("utilization/gpu_util"), 25
    yield "temperature C", ours["temperature_c"], scaled("temperature/gpu_temp"), 2
    yield "memory temperature C", ours["memory_temperature_c"], scaled("temperature/memory_temp"), 2
    power = [f"{group}/{leaf}" for group in ("gpu_power_readings", "power_readings")
             for leaf in ("average_power_draw", "power_draw", "instant_power_draw")]
    yield "power W", ours["power_w"], scaled(power[0], 1.0, *power[1:]), 40
    limit = [f"{group}/{leaf}" for group in ("gpu_power_readings", "power_readings")
             for leaf in ("current_power_limit", "enforced_power_limit", "power_limit")]
    yield "power limit W", ours["power_limit_w"], scaled(limit[0], 1.0, *limit[1:]), 0.51
    yield "SM clock MHz", ours["sm_clock_mhz"], scaled("clocks/sm_clock"), 120
    yield "largest SM clock MHz", ours["max_sm_clock_mhz"], scaled("max_clocks/sm_clock"), 0
    yield "memory clock MHz", ours["memory_clock_mhz"], scaled("clocks/mem_clock"), 0
    yield "fan %", ours["fan_percent"], scaled("fan_speed"), 3
    yield "P-state", ours["performance_state"], pair(lambda g: number((first(g, "performance_state") or "")[1:])), 0
    yield "throttle reasons", ours["throttle_bits"], pair(reasons), "bits"
    pcie = "pci/pci_gpu_link_info/"
    yield "PCIe generation", ours["pcie"]["generation"], scaled(pcie + "pcie_gen/current_link_gen"), 0
    yield "PCIe width", ours["pcie"]["width"], scaled(pcie + "link_widths/current_link_width"), 0
    yield "PCIe largest generation", ours["pcie"]["max_generation"], scaled(pcie + "pcie_gen/max_link_gen"), 0
    yield "PCIe largest width", ours["pcie"]["max_width"], scaled(pcie + "link_widths/max_link_width"), 0
    up = links.get(first(before, "uuid"))
    yield "NVLinks up", ours["nvlink"]["active"], (up and up[0], up and up[0]), 0
    mode = {True: "Enabled", False: "Disabled", None: None}
    yield "ECC", mode[ours["ecc"]["enabled"]], pair(lambda g: first(g, "ecc_mode/current_ecc")), None
    yield "ECC corrected", ours["ecc"]["corrected"], pair(
        lambda g: total(g, ecc + "sram_correctable", ecc + "dram_correctable", ecc + "single_bit/total")), 0
    yield "ECC uncorrected", ours["ecc"]["uncorrected"], pair(
        lambda g: total(g, ecc + "sram_uncorrectable", ecc + "sram_uncorrectable_parity",
                        ecc + "sram_uncorrectable_secded", ecc + "dram_uncorrectable", ecc + "double_bit/total")), 0
    yield "remapped rows", ours["ecc"]["remapped_rows"], pair(
        lambda g: total(g, "remapped_rows/remapped_row_corr", "remapped_rows/remapped_row_unc")), 0
    yield "MIG", mode[ours["mig_enabled"]], pair(lambda g: first(g, "mig_mode/current_mig")), None
    held = [p["used_bytes"] for p in ours["processes"]]
    yield "memory of processes MiB", mib(sum(held)) if held and None not in held else None, pair(
        lambda g: total_of(number(p.findtext("used_memory")) for p in g.iter("process_info"))), 64
    yield "processes", sorted(p["pid"] for p in ours["processes"]), pair(processes), "list"


def verdict(ours, before, after, tolerance):
    if ours is None and before is None and after is None:
        return "both unknown"
    if ours is None:
        return "oomph does not tell"
    if before is None and after is None:
        return "nvidia-smi does not tell"
    if tolerance is None:
        return "agrees" if ours in (before, after) else "DIFFERS"
    if tolerance == "bits":
        return "agrees" if ours in (before, after) else "moved" if before != after else "DIFFERS"
    if tolerance == "list":
        # Inside a container nvidia-smi leaves processes out.
        return "agrees" if ours in (before, after) else "nvidia-smi does not tell" if not before else "DIFFERS"
    told = [v for v in (before, after) if v is not None]
    return "agrees" if min(told) - tolerance <= ours <= max(told) + tolerance else "DIFFERS"


def show(value):
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    built = [os.path.join(here, "target", kind, "oomph") for kind in ("release", "debug")]
    parser.add_argument("--oomph", default=next((b for b in built if os.path.exists(b)), "oomph"))
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        log.write("{'loss': 1.0, 'epoch': 0.1}\n")
        log.flush()
        before, links = smi(), nvlinks()
        started = time.time()
        answer = run([options.oomph, "--once", "--json", log.name])
        took = time.time() - started
        after = smi()
    if answer.returncode:
        sys.exit(f"oomph failed: {answer.stderr}")
    frame = json.loads(answer.stdout)
    if not frame["gpus"]:
        print(f"oomph sees no GPU: {frame['gpus_unavailable']}")
        return 2
    different = 0
    print(f"{len(frame['gpus'])} GPUs; oomph's frame took {took:.2f} s")
    for ours in frame["gpus"]:
        if ours["uuid"] not in before:
            print(f"GPU {ours['index']}: nvidia-smi knows no {ours['uuid']}")
            different += 1
            continue
        print(f"\nGPU {ours['index']} {ours['name']} {ours['uuid']}")
        print(f"  {'figure':<24} {'oomph':>20} {'nvidia-smi before':>20} {'after':>20}  ")
        for name, value, (old, new), tolerance in rows(ours, before[ours["uuid"]], after[ours["uuid"]], links):
            judged = verdict(value, old, new, tolerance)
            different += judged in ("DIFFERS", "oomph does not tell")
            print(f"  {name:<24} {show(value):>20.20} {show(old):>20.20} {show(new):>20.20}  {judged}")
        print(f"  reasons in words: {', '.join(ours['throttle_reasons'] or []) or 'none'}")
        for refusal in ours["refused"]:
            print(f"  refused: {refusal['figure']}: {refusal['reason']}")
    if options.seconds > 0:
        rates(options)
    print(f"\n{different} differ" if different else "\neverything agrees")
    return 1 if different else 0


def rates(options):
    """What the helper tells after some looks: rates are means between two of them."""
    helper = subprocess.Popen([options.oomph, "nvml-helper", "--interval-ms", "1000"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end, last = time.time() + options.seconds, []
    for line in helper.stdout:
        reading = json.loads(line) if line.strip() else {}
        last = reading.get("samples", last)
        if time.time() > end:
            break
    helper.stdin.close()
    helper.wait(10)
    print("\nrates (MiB/s) and activity (%) of the last seconds")
    for s in last:
        def mib(key):
            return "-" if s[key] is None else f"{s[key] / 1024:.1f}"
        def percent(key):
            return "-" if s[key] is None else f"{s[key]:.1f}"
        print(f"  GPU {s['index']}: PCIe rx {mib('pcie_rx_kib_s')} tx {mib('pcie_tx_kib_s')}, "
              f"NVLink rx {mib('nvlink_rx_kib_s')} tx {mib('nvlink_tx_kib_s')}, "
              f"SM {percent('sm_active_percent')}, tensor {percent('tensor_active_percent')}, "
              f"refused {[what for what, _ in s['refused']]}")


if __name__ == "__main__":
    sys.exit(main())
