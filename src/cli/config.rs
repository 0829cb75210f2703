//! The configuration as it is in effect, and where each setting comes from. None of them is a secret.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::context::CommandError;
use crate::cli::output::{Output, printable, to_toml};
use crate::config::Setting;

/// Prints which file was read, and the configuration as a file that reads back as the same; or both as JSON.
///
/// # Errors
/// [`CommandError::Output`].
pub fn show(output: &mut Output, file: Option<&Path>, settings: &[Setting]) -> Result<(), CommandError> {
    let text = as_toml(file, settings)?;
    Ok(output.print(&as_json(file, settings), || text)?)
}

fn as_toml(file: Option<&Path>, settings: &[Setting]) -> io::Result<String> {
    let mut text = match file {
        Some(file) => format!("# The file that was read is {}.\n\n", printable(&file.to_string_lossy())),
        None => "# No file was read.\n\n".to_owned(),
    };
    let mut section = "";
    for setting in settings {
        if setting.section != section {
            let before = if section.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{before}[{}]", setting.section);
            section = setting.section;
        }
        let value = to_toml(&setting.value)?;
        let _ = writeln!(text, "{} = {value} # {}", setting.key, printable(&origin_of(setting)));
    }
    Ok(text)
}

fn as_json(file: Option<&Path>, settings: &[Setting]) -> Map<String, Value> {
    let mut sections = Map::new();
    sections.insert("file".to_owned(), file.map(Path::to_string_lossy).into());
    for setting in settings {
        let section = sections.entry(setting.section).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(section) = section {
            section.insert(setting.key.to_owned(), json!({"value": setting.value, "origin": origin_of(setting)}));
        }
    }
    sections
}

fn origin_of(setting: &Setting) -> String {
    setting.origin.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
}
