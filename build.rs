//! What is in the binary as gzip: the OpenAPI document, as it is committed, and from Swagger UI's archive the files that the
//! pages under /docs need. What the archive has not compressed is in it as it is.

use std::error::Error;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// The head of a gzip file without a name and a time (RFC 1952).
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=docs/openapi.json");
    let folder = std::env::var("OUT_DIR")?;
    let document: serde_json::Value = serde_json::from_slice(&fs::read("docs/openapi.json")?)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut packed, &document)?;
    fs::write(Path::new(&folder).join("openapi.json.gz"), packed.finish()?)?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let names = archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<Vec<_>, ZipError>>()?;
    for file in FILES {
        let is_it = |name: &&String| name.split('/').skip(1).eq(["dist", file]);
        let name = names.iter().find(is_it).ok_or_else(|| format!("Swagger UI has no {file}"))?;
        // Read to its end, an entry is checked with its CRC.
        let mut plain = Vec::new();
        archive.by_name(name)?.read_to_end(&mut plain)?;

        // The archive has the deflated bytes of a file, which are the middle of a gzip file.
        let index = archive.index_for_name(name).ok_or("a file is not in the archive")?;
        let mut entry = archive.by_index_raw(index)?;
        if entry.compression() != CompressionMethod::Deflated {
            fs::write(Path::new(&folder).join(file), &plain)?;
            continue;
        }
        let mut gzip = GZIP_HEAD.to_vec();
        entry.read_to_end(&mut gzip)?;
        gzip.extend(entry.crc32().to_le_bytes());
        gzip.extend(u32::try_from(plain.len())?.to_le_bytes());
        fs::write(Path::new(&folder).join(format!("{file}.gz")), gzip)?;
    }
    Ok(())
}
