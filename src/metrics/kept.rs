//! Series live as long as the listener, cluster or endpoint that they tell of: until the last of its sessions has
//! ended. A daemon whose settings change every day would show all names that it ever had otherwise.

use crate::lock::lock;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

/// Names and values of labels that all series of something have in common.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A family that can forget.
pub(super) trait Family: Send + Sync {
    /// Removes every series that has all of these labels.
    fn forget(&self, labels: &Labels);
}

/// Knows whose series are kept.
pub(super) struct Keeper {
    families: Vec<Box<dyn Family>>,
    kept: Mutex<HashMap<Vec<Labels>, Weak<Kept>>>,
}

/// Keeps the series of one listener, cluster or endpoint.
pub(super) struct Kept {
    series: Vec<Labels>,
    keeper: Arc<Keeper>,
}

impl Keeper {
    pub(super) fn of(families: Vec<Box<dyn Family>>) -> Arc<Self> {
        Arc::new(Self { families, kept: Mutex::default() })
    }

    /// Keeps all series with one of these sets of labels. To be had before the first of them is made.
    pub(super) fn keep(self: &Arc<Self>, series: Vec<Labels>) -> Arc<Kept> {
        let mut kept = lock(&self.kept);
        if let Some(known) = kept.get(&series).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Kept { series: series.clone(), keeper: Arc::clone(self) });
        kept.insert(series, Arc::downgrade(&new));
        new
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = lock(&self.keeper.kept);
        // What has come back meanwhile goes on with the same series.
        kept.retain(|_, kept| kept.strong_count() > 0);
        let is_left = |labels: &&Labels| !kept.keys().any(|series| series.contains(labels));
        for labels in self.series.iter().filter(is_left) {
            self.keeper.families.iter().for_each(|family| family.forget(labels));
        }
    }
}

impl<B: MetricVecBuilder> Family for MetricVec<B>
where
    Self: Collector,
{
    fn forget(&self, labels: &Labels) {
        for family in self.collect() {
            for metric in family.get_metric() {
                let has = |name: &str, value: &str| {
                    metric.get_label().iter().any(|pair| pair.name() == name && pair.value() == value)
                };
                if labels.iter().all(|(name, value)| has(name, value)) {
                    let own: HashMap<_, _> =
                        metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
                    // It was collected a moment ago; who else has removed it does not matter.
                    let _ = self.remove(&own);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        metrics::{Metrics, labels::EndpointState},
        settings::Name,
    };

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    #[test]
    fn series_go_with_the_last_that_needs_them_and_others_stay() {
        let metrics = Metrics::new().unwrap();
        let (before, after) = (metrics.listener(&name("old"), 1), metrics.listener(&name("old"), 1));
        let _other = metrics.listener(&name("other"), 1);
        metrics.certificate_expires("local", &name("old"), Some(std::time::SystemTime::now()));
        before.accepted.inc();
        after.accepted.inc();

        drop(before);
        assert!(text(&metrics).contains("connections_accepted_total{listener=\"old\"} 2"));
        drop(after);

        let text = text(&metrics);
        assert!(!text.contains("\"old\""), "{text}");
        assert!(text.contains("connections_accepted_total{listener=\"other\"} 0"));
    }

    #[test]
    fn an_endpoint_of_the_same_name_in_another_cluster_keeps_its_own() {
        let metrics = Metrics::new().unwrap();
        let (one, other) = (metrics.endpoint(&name("a"), &name("e")), metrics.endpoint(&name("b"), &name("e")));
        other.certificate_expires(std::time::SystemTime::now());
        one.changes.at(EndpointState::Well).inc();

        drop(one);

        let text = text(&metrics);
        assert!(!text.contains("cluster=\"a\""), "{text}");
        assert!(text.contains("cluster=\"b\"") && text.contains("kind=\"server\",name=\"e\""), "{text}");
        drop(other);
        assert!(!self::text(&metrics).contains("\"e\""));
    }

    #[test]
    fn what_comes_back_is_counted_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.listener(&name("main"), 1).accepted.inc();

        let _again = metrics.listener(&name("main"), 1);

        assert!(text(&metrics).contains("connections_accepted_total{listener=\"main\"} 0"));
    }
}
