"""What the workloads need, from the distribution's packages."""

import subprocess
import sys


def _packages(workload):
    version = f"python3.{sys.version_info[1]}"
    listed = subprocess.run(["/usr/bin/python3", "-c", "import sys; print('python3.%d' % sys.version_info[1])"],
                            capture_output=True, text=True)
    if listed.returncode == 0:
        version = listed.stdout.strip()
    return [package.format(python=version) for package in workload.PACKAGES]


def _is_installed(package):
    # "gdb | gdb-minimal": one of them will do.
    return any(
        subprocess.run(["dpkg-query", "-W", "-f=${Status}", name.strip()], capture_output=True, text=True)
        .stdout.endswith("ok installed")
        for name in package.split("|")
    )


def missing(workload):
    """The packages of a workload that are not there."""
    found = [package for package in _packages(workload) if not _is_installed(package)]
    return found + list(getattr(workload, "missing", lambda: [])())


def all_of(workloads):
    """Installs everything; the exit status says whether all is there."""
    wanted = sorted({package.split("|")[0].strip() for workload in workloads for package in _packages(workload)
                     if not _is_installed(package)})
    apt = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    sudo = [] if subprocess.run(["id", "-u"], capture_output=True).stdout == b"0\n" else ["sudo", "-E"]
    if wanted:
        subprocess.run([*sudo, "apt-get", "update", "-q"], env=apt)
        subprocess.run([*sudo, "apt-get", "install", "-qy", "--no-install-recommends", *wanted], env=apt)
    for workload in workloads:
        if hasattr(workload, "install"):
            workload.install()
    status = 0
    for workload in workloads:
        if lacking := missing(workload):
            print(f"******** MISSING for {workload.TITLE}: {' '.join(lacking)} ********", file=sys.stderr)
            status = 1
    return status
