//! The file of `--rename`: new names by the ids of the source. It is CSV, with the columns `source_id` and `new_name`.

use std::collections::HashMap;
use std::path::Path;

use crate::import::ImportError;
use crate::import::formats::csv::CsvFile;
use crate::import::formats::tables::{Cell, Tables as _, shown};

/// Its columns.
const COLUMNS: [&str; 2] = ["source_id", "new_name"];

/// Reads it.
///
/// # Errors
/// See [`ImportError`].
pub fn read(path: &Path) -> Result<HashMap<String, String>, ImportError> {
    let mut file = CsvFile::open(path, "", "names")?;
    let table = file.tables()[0].clone();
    if COLUMNS.iter().any(|column| !table.columns.iter().any(|own| own == column)) {
        let [id, name] = COLUMNS;
        return Err(ImportError::new(format!("the first line of the file of new names has to be {id},{name}")));
    }
    let mut names = HashMap::new();
    file.read(&table, &COLUMNS, &mut |cells| {
        let [Some(id), Some(name)] = [0, 1].map(|index| cells.get(index).and_then(Cell::text)) else {
            return Err(ImportError::new("a line of the file of new names has no id, or no name"));
        };
        if names.insert(id.clone(), name).is_some() {
            return Err(ImportError::new(format!("the file of new names has the id {} twice", shown(&id))));
        }
        Ok(())
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_new_names_has_a_header_and_each_id_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.csv");
        let read_text = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path)
        };
        let names = read_text("source_id,new_name\n7,ana.k\n8,\"a, b\"\n").unwrap();
        assert_eq!((names["7"].as_str(), names["8"].as_str(), names.len()), ("ana.k", "a, b", 2));
        assert_eq!(read_text("new_name,source_id\nana.k,7\n").unwrap()["7"], "ana.k");
        for refused in ["7,ana.k\n", "source_id,new_name\n7,\n", "source_id,new_name\n7,a\n7,b\n", ""] {
            assert!(read_text(refused).is_err(), "{refused}");
        }
    }
}
