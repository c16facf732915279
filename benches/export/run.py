#!/usr/bin/env python3
"""Exports the leads of one fake HubSpot with a naive script on the official client and with `leadsd export`,
one after the other, and prints time, calls and memory of both.

Usage: run.py [--leads 100000] [--latency 200ms] [--leadsd target/release/leadsd]
Needs HubSpot's client: pip install hubspot-api-client==12.0.0
"""

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PROPERTIES = "hs_lead_name,hs_lead_label"


class Dev:
    """leadsd dev: the service and the fake HubSpot in one process, on free ports."""

    def __init__(self, leadsd: str, *options: str) -> None:
        ports = [f"--{name}=127.0.0.1:0" for name in ("grpc", "admin", "hubspot", "vault")]
        command = [leadsd, "dev", *ports, "--log=warn", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        text = ""
        for line in self.process.stdout:
            text += line
            if line.startswith("Ctrl-C stops it."):
                break

        def found(pattern: str) -> str:
            match = re.search(pattern, text)
            if match is None:
                raise SystemExit(f"leadsd dev printed no {pattern}:\n{text}")
            return match[1]

        self.grpc = found(r"gRPC +(\S+)")
        self.admin = found(r"admin +http://([^/]+)/")
        self.hubspot = found(r"HubSpot +(http://\S+)")
        self.token = found(r"Authorization: Bearer ([^']+)' http")
        self.contact = found(r"contacts +(\d+)")

    def calls(self) -> int:
        """HubSpot calls of the service so far."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics") as response:
            text = response.read().decode()
        lines = re.findall(r"^leadsd_hubspot_calls_total\{[^}]*\} (\S+)$", text, re.MULTILINE)
        return round(sum(map(float, lines)))

    def memory(self) -> int:
        """Resident memory of the process in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


def measured(command: list[str]) -> tuple[float, int, str]:
    """Runs a command; returns its seconds, its peak of resident memory in KiB, and its output."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        out.seek(0)
        text = out.read()
    if status != 0:
        raise SystemExit(f"{command} failed:\n{text}")
    return seconds, usage.ru_maxrss, text


def rows(file: Path) -> int:
    with open(file, newline="", encoding="utf-8") as text:
        return sum(1 for _ in csv.reader(text)) - 1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--leads", type=int, default=100_000)
    options.add_argument("--latency", default="200ms", help="of each response of the fake HubSpot")
    options.add_argument("--leadsd", default="target/release/leadsd")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = f"--state={folder / 'state.json'}"
        filling = Dev(given.leadsd, state, "--quota=1000000/10s")
        leads = folder / "leads.csv"
        with open(leads, "w", encoding="utf-8") as file:
            file.write("hs_lead_name,hs_lead_label\n")
            file.writelines(f"Lead {number},HOT\n" for number in range(given.leads))
        contact = ["--contact-id", filling.contact]
        measured([given.leadsd, "import", str(leads), "--address", filling.grpc, *contact])
        filling.stop()

        dev = Dev(given.leadsd, state, f"--latency={given.latency}")
        naive, exported = folder / "naive.csv", folder / "export.csv"
        script = [sys.executable, str(HERE / "naive.py"), dev.hubspot, dev.token, str(naive)]
        seconds, memory, text = measured(script)
        found, pages = map(int, text.split())
        print("| | Time | HubSpot calls | Memory of the client |")
        print("|---|---|---|---|")
        print(f"| Python, official client | {seconds:.0f} s | {pages} | {memory / 1024:.0f} MiB |", flush=True)
        # The window of the naive script ends before the next one.
        time.sleep(10)
        before = dev.calls()
        command = [given.leadsd, "export", "--out", str(exported), "--properties", PROPERTIES]
        seconds, memory, _ = measured([*command, "--address", dev.grpc])
        calls = dev.calls() - before
        print(f"| `leadsd export` | {seconds:.0f} s | {calls} | {memory / 1024:.0f} MiB |")
        counts = (found, rows(naive), rows(exported))
        dev.stop()
        # The fake has a few leads from the start.
        if min(counts) < given.leads or len(set(counts)) > 1:
            raise SystemExit(f"not the same leads: {counts}")


if __name__ == "__main__":
    main()
