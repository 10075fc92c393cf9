//! One event as it is logged, whatever the format, and the layer that hands it to a format.

use super::sink;
use serde_json::Value;
use std::{fmt, time::SystemTime};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// What an event says. Values are text, numbers and booleans.
pub(super) struct Line {
    pub(super) timestamp: String,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) target: String,
    /// In the order in which the source gives them.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// A layer that writes each event to standard error as `format` puts it.
pub(super) fn layer<S: Subscriber>(format: impl Fn(&Line) -> String + Send + Sync + 'static) -> impl Layer<S> {
    Lines(move |line: &Line| sink::write(format(line)))
}

struct Lines<F>(F);

impl<S: Subscriber, F: Fn(&Line) + Send + Sync + 'static> Layer<S> for Lines<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line {
            timestamp: crate::diagnostics::rfc3339(SystemTime::now()),
            level: *metadata.level(),
            message: String::new(),
            target: metadata.target().to_owned(),
            fields: Vec::new(),
        };
        event.record(&mut line);
        (self.0)(&line);
    }
}

impl Line {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        match (field.name(), value.into()) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// The one line that `log` logs.
#[cfg(test)]
pub(super) fn logged(log: impl FnOnce()) -> Line {
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let keep = move |line: &Line| {
        let Line { timestamp, level, message, target, fields } = line;
        let (timestamp, message, target) = (timestamp.clone(), message.clone(), target.clone());
        kept.lock().unwrap().push(Line { timestamp, level: *level, message, target, fields: fields.clone() });
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Lines(keep)), log);
    let line = lines.lock().unwrap().pop();
    line.expect("a line")
}
