//! Levels of memory pressure, with a double for the resident memory.

use std::sync::atomic::AtomicBool;

use tokio::time::sleep;

use super::*;

/// Resident memory that a test sets, with a limit of 1,000 bytes.
#[derive(Clone, Default)]
struct Resident(Arc<AtomicU64>);

// === impl Resident ===

impl Resident {
    fn watch(&self) -> (MemoryPressure, Task) {
        let Self(bytes) = self.clone();
        MemoryPressure::watch(1_000, move || Some(bytes.load(Ordering::Relaxed)))
    }

    /// Sets the bytes and returns the level after the next measurement.
    async fn level_at(&self, bytes: u64, pressure: &MemoryPressure) -> PressureLevel {
        self.0.store(bytes, Ordering::Relaxed);
        sleep(INTERVAL * 2).await;
        pressure.level()
    }
}

#[tokio::test(start_paused = true)]
async fn levels_begin_at_80_and_90_percent_and_end_5_percent_below() {
    use PressureLevel::{Critical, High, Normal};
    let resident = Resident::default();
    let (pressure, _task) = resident.watch();
    for (bytes, level) in [
        (799, Normal),
        (800, High),
        (899, High),
        (750, High),
        (749, Normal),
        (900, Critical),
        (5_000, Critical),
        (850, Critical),
        (849, High),
        (900, Critical),
        (100, Normal),
    ] {
        assert_eq!(resident.level_at(bytes, &pressure).await, level, "{bytes}");
        assert_eq!(pressure.usage(), Some(MemoryUsage { resident: bytes, limit: 1_000 }));
    }
}

#[tokio::test(start_paused = true)]
async fn expected_memory_raises_the_level_before_it_is_measured() {
    use PressureLevel::{Critical, High, Normal};
    let resident = Resident::default();
    let (pressure, _task) = resident.watch();
    assert_eq!(resident.level_at(500, &pressure).await, Normal);
    for (more, level) in [(0, Normal), (299, Normal), (300, High), (400, Critical)] {
        assert_eq!(pressure.level_with(more), level, "{more}");
    }
    assert_eq!(pressure.level_with(u64::MAX), Critical);
    assert_eq!(resident.level_at(900, &pressure).await, Critical);
    assert_eq!(pressure.level_with(0), Critical);
    assert_eq!(MemoryPressure::default().level_with(u64::MAX), Normal);
}

#[tokio::test(start_paused = true)]
async fn the_level_is_known_at_once() {
    let resident = Resident::default();
    resident.0.store(950, Ordering::Relaxed);
    let (pressure, _task) = resident.watch();
    assert_eq!(pressure.level(), PressureLevel::Critical);
}

#[tokio::test(start_paused = true)]
async fn memory_that_cannot_be_read_rejects_nothing() {
    let is_readable = Arc::new(AtomicBool::new(true));
    let readable = Arc::clone(&is_readable);
    let read = move || readable.load(Ordering::Relaxed).then_some(950);
    let (pressure, _task) = MemoryPressure::watch(1_000, read);
    assert_eq!(pressure.level(), PressureLevel::Critical);
    is_readable.store(false, Ordering::Relaxed);
    sleep(INTERVAL * 2).await;
    assert_eq!(pressure.level(), PressureLevel::Normal);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_measurement_is_survived() {
    let panics = Arc::new(AtomicBool::new(false));
    let planted = Arc::clone(&panics);
    let read = move || {
        assert!(!planted.swap(false, Ordering::Relaxed), "planted");
        Some(950)
    };
    let (pressure, _task) = MemoryPressure::watch(1_000, read);
    panics.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert!(!panics.load(Ordering::Relaxed));
    assert_eq!(pressure.level(), PressureLevel::Critical);
}

#[test]
fn without_a_limit_there_is_no_pressure() {
    let pressure = MemoryPressure::default();
    assert_eq!((pressure.level(), pressure.usage()), (PressureLevel::Normal, None));
}
