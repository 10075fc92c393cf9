//! Log lines as JSON: one flat object a line, names as the README gives them.

use super::line::Line;
use serde::{Serialize, Serializer, ser::SerializeMap};

/// One line, with its line feed.
pub(super) fn write(line: &Line) -> String {
    // Text, numbers and booleans under text can always be written.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

impl Serialize for Line {
    /// First what people look for: `timestamp`, `level`, `message`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", &self.timestamp)?;
        object.serialize_entry("level", self.level.as_str())?;
        object.serialize_entry("message", &self.message)?;
        object.serialize_entry("target", &self.target)?;
        for (name, value) in &self.fields {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line::logged, *};
    use serde_json::Value;

    #[test]
    fn hostile_values_stay_inside_one_line_of_json() {
        let line = write(&logged(|| tracing::info!(client.database = "a\n\"b\u{0}\\", "x")));

        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["client.database"], "a\n\"b\u{0}\\");
    }

    #[test]
    fn what_people_look_for_comes_first() {
        let line = write(&logged(|| tracing::info!(a = 1, "b")));

        assert!(line.contains("Z\",\"level\":\"INFO\",\"message\":\"b\",\"target\":\"crdb_proxy::"), "{line}");
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with(",\"a\":1}\n"), "{line}");
    }
}
