//! The usual series of a process, under the names that Prometheus' own clients give them. The library's collector is
//! not used, since it counts CPU in whole seconds, of which this daemon needs few.

use super::unix_seconds;
use crate::sys::{ProcessFacts, process_facts};
use prometheus::{Counter, Gauge, IntGauge, Registry, core::Collector};
use std::time::SystemTime;

/// What they are. They show what was looked at last.
pub(super) struct ProcessSeries {
    cpu: Counter,
    open: IntGauge,
    most: Gauge,
    resident: IntGauge,
    virtual_memory: IntGauge,
    threads: IntGauge,
}

impl ProcessSeries {
    /// Registers them, where the system tells enough of a process; else they would all say 0.
    pub(super) fn register(registry: &Registry) -> Result<Option<Self>, prometheus::Error> {
        let Some(facts) = process_facts() else { return Ok(None) };
        let started = shown(registry, Gauge::new("process_start_time_seconds", "When it was started, since 1970.")?)?;
        // Once: each look would see it a little elsewhere.
        started.set(unix_seconds(SystemTime::now() - facts.age));
        Ok(Some(Self {
            cpu: shown(registry, Counter::new("process_cpu_seconds_total", "User and system CPU time in seconds.")?)?,
            open: shown(registry, IntGauge::new("process_open_fds", "File descriptors that are open.")?)?,
            most: shown(registry, Gauge::new("process_max_fds", "File descriptors that may be open.")?)?,
            resident: shown(registry, IntGauge::new("process_resident_memory_bytes", "Resident memory.")?)?,
            virtual_memory: shown(registry, IntGauge::new("process_virtual_memory_bytes", "Virtual memory.")?)?,
            threads: shown(registry, IntGauge::new("process_threads", "Threads.")?)?,
        }))
    }

    /// Looks at the process.
    pub(super) fn look(&self) {
        let Some(facts) = process_facts() else { return };
        let ProcessFacts { cpu, open_descriptors, most_descriptors, resident, virtual_memory, threads, .. } = facts;
        // Two at once may both add the same span: then the next ones add less.
        self.cpu.inc_by((cpu.as_secs_f64() - self.cpu.get()).max(0.0));
        self.open.set(whole(open_descriptors));
        self.most
            .set(most_descriptors.map_or(f64::INFINITY, |most| f64::from(u32::try_from(most).unwrap_or(u32::MAX))));
        self.resident.set(whole(resident));
        self.virtual_memory.set(whole(virtual_memory));
        self.threads.set(whole(threads));
    }
}

fn shown<C: Collector + Clone + 'static>(registry: &Registry, series: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
