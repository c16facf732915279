//! Properties of the machine: cores to pin processes to, so that the measured process has a core
//! for itself, and the limit of open files.

use std::{
    io,
    process::{Child, Command},
    thread,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Core of the load, the fakes and the upstream: the first one that this process may use.
pub(crate) fn load_core() -> usize {
    cores().next().unwrap_or(0)
}

/// Core of the measured process: the last one that the bench may use.
pub(crate) fn service_core() -> usize {
    cores().last().unwrap_or(0)
}

/// Pins the current thread. Threads and processes that it starts inherit the core.
pub(crate) fn pin_thread(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("the core is one of this process");
}

/// Starts a process that is pinned to a core from its first instruction on, so that it sizes its
/// thread pools for one core.
pub(crate) fn spawn_pinned(command: &mut Command, core: usize) -> io::Result<Child> {
    thread::scope(|scope| {
        let spawn = || {
            pin_thread(core);
            command.spawn()
        };
        scope.spawn(spawn).join().expect("the thread does not panic")
    })
}

/// Cores that the process was started with, in ascending order.
fn cores() -> impl DoubleEndedIterator<Item = usize> {
    let process = rustix::process::getpid();
    let set = sched_getaffinity(Some(process)).expect("Linux reports the cores of this process");
    (0..CpuSet::MAX_CPU).filter(move |core| set.is_set(*core))
}

/// Raises the soft limit of open files to the hard limit, also for the processes that are started.
pub(crate) fn raise_open_files() {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    // A failure shows as a skipped scenario.
    let _ = rustix::process::setrlimit(resource, limit);
}

/// Number of files that a process may open.
pub(crate) fn max_open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}
