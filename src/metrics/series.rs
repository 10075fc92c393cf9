//! What families of metrics are made of: a series for each value of a label, gauges that are held, and how
//! families come into the registry. Knows no metric by name.

use super::{kept::Family, labels::Label};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};
use std::{cell::RefCell, marker::PhantomData};

/// One metric for each value of a label.
pub struct Per<L, M>(Vec<M>, PhantomData<L>);

impl<L: Label, M> Per<L, M> {
    pub(super) fn new(make: impl Fn(&'static str) -> M) -> Self {
        Self(L::ALL.iter().map(|label| make(label.text())).collect(), PhantomData)
    }

    /// The metric for this value.
    #[expect(clippy::indexing_slicing, reason = "there is one for each of L::ALL")]
    pub fn at(&self, label: L) -> &M {
        &self.0[label.place()]
    }
}

/// Keeps a gauge one higher for as long as it lives.
pub struct Held(IntGauge);

impl Held {
    /// Raises the gauge.
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Registers families under the daemon's prefix.
pub(super) struct Families<'a> {
    registry: &'a Registry,
    all: RefCell<Vec<Box<dyn Family>>>,
}

impl<'a> Families<'a> {
    pub(super) fn of(registry: &'a Registry) -> Self {
        Self { registry, all: RefCell::default() }
    }

    /// All that were registered.
    pub(super) fn into_all(self) -> Vec<Box<dyn Family>> {
        self.all.into_inner()
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(full_name(name), help), labels)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(full_name(name), help), labels)?)
    }

    pub(super) fn times(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Opts::new(full_name(name), help), labels)?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.register(HistogramVec::new(HistogramOpts::new(full_name(name), help).buckets(buckets.to_vec()), labels)?)
    }

    fn register<C: Collector + Family + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(family.clone()))?;
        self.all.borrow_mut().push(Box::new(family.clone()));
        Ok(family)
    }
}

fn full_name(name: &str) -> String {
    format!("crdb_proxy_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_gauge_falls_when_its_holder_goes() {
        let active = IntGauge::new("active", "Open now.").unwrap();

        let held = Held::new(&active);
        assert_eq!(active.get(), 1);
        drop(held);

        assert_eq!(active.get(), 0);
    }
}
