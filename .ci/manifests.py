"""Checks rendered manifests against the schemas of Kubernetes and of the custom resources they use.

Usage: manifests.py NODE_FOLDER FILE...

Resources of Kubernetes are validated against the schemas of the oldest version that the chart supports
and of the newest version; unknown keys are errors. A custom resource becomes a literal of its TypeScript
type: the compiler finds unknown keys, missing keys, and values of the wrong kind.
"""

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

VERSIONS = ["1.30", kubernetes_validate.latest_version()]

# The npm package with the types of each API of custom resources.
CUSTOM = {
    "cert-manager.io/v1": "@kubernetes-models/cert-manager",
    "gateway.networking.k8s.io/v1": "@kubernetes-models/gateway-api",
    "monitoring.coreos.com/v1": "@kubernetes-models/prometheus-operator",
}


def main(node: Path, files: list[str]) -> int:
    faults, literals, count = 0, [], 0
    for file in files:
        for resource in yaml.safe_load_all(Path(file).read_text()):
            if not resource:
                continue
            count += 1
            api, kind = resource["apiVersion"], resource["kind"]
            name = f"{file}: {kind} {resource['metadata']['name']}"
            if api in CUSTOM:
                of_kind = f'import("{CUSTOM[api]}/{api}").I{kind}'
                literals.append(f"// {name}\n({json.dumps(resource)}) satisfies {of_kind};\n")
            else:
                faults += sum(not valid(name, resource, version) for version in VERSIONS)
    if literals:
        faults += not compiles(node, "".join(literals))
    print(f"{count} manifests, {len(literals)} of them custom resources, {faults} faults")
    return 0 if count and not faults else 1


def valid(name: str, resource: dict, version: str) -> bool:
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as fault:
        path = ".".join(str(part) for part in fault.path)
        print(f"{name}: {path}: {fault.message} (Kubernetes {version})")
        return False
    except kubernetes_validate.SchemaNotFoundError as fault:
        print(f"{name}: {fault.message}")
        return False
    return True


def compiles(node: Path, source: str) -> bool:
    path = node / "custom_resources.mts"
    path.write_text(source)
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext"]
    tsc = node / "node_modules/.bin/tsc"
    return subprocess.run([tsc, *flags, path], check=False, timeout=120).returncode == 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
