//! The yt-dlp plugin that comes with this program. It is installed in a folder that no child can write to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sallyport_core::secrets::secret_file::{self, SecretError, create_private_dir};

const SOURCE: &str = include_str!("companion.py");

/// The folder for `--plugin-dirs`, within the data folder, and the path within it at which yt-dlp looks for plugins.
const ROOT: &str = "yt-dlp";
const FOLDER: &str = "sallyport/yt_dlp_plugins/postprocessor";
const FILE: &str = "companion.py";

/// Installs the plugin. Returns the folder for `--plugin-dirs`.
pub(crate) fn install(data_dir: &Path) -> io::Result<PathBuf> {
    let root = data_dir.join(ROOT);
    let folder = root.join(FOLDER);
    create_private_dir(&folder)?;
    let file = folder.join(FILE);
    if !fs::read_to_string(&file).is_ok_and(|text| text == SOURCE) {
        secret_file::write(&file, SOURCE.as_bytes()).map_err(|error| match error {
            SecretError::Io(_, error) => error,
            other => io::Error::other(other),
        })?;
    }
    Ok(root)
}
