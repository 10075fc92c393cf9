//! The text of a settings file.

use crate::settings::{Source, load_text, show};
use std::path::Path;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > BYTES_MAX {
        return;
    }
    let load = |text: &str| load_text(text, Path::new("/srv/app/crdb-proxy.toml"), Some(Path::new("/home/app")));
    match load(text) {
        Ok(loaded) => {
            // What `config show` prints is a settings file, and the same settings.
            let shown = show(&loaded);
            match load(&shown) {
                Ok(again) => assert_eq!(again.settings, loaded.settings, "{shown}"),
                Err(faults) => panic!("{faults}\n{shown}"),
            }
        }
        Err(faults) => {
            let lines = text.lines().count() + 1;
            assert!(faults.iter().count() > 0);
            for fault in faults.iter() {
                assert!(!fault.rule.is_empty() && !fault.to_string().is_empty());
                if let Source::File { line: Some(line), .. } = &fault.source {
                    assert!(line.get() <= lines, "{fault}");
                }
            }
        }
    }
}

/// A fault for every few bytes may take its time.
const BYTES_MAX: usize = 8 * 1024;
