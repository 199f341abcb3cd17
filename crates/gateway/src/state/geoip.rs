//! The country database: an operator's file that maps addresses to countries, read and verified as a whole at startup.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use maxminddb::{MaxMindDbError, PathElement, Reader};
use thiserror::Error;

use crate::policy::{Countries, CountryCode};

/// The path of the country code in a record of a country or city database.
const CODE: [PathElement<'static>; 2] = [PathElement::Key("country"), PathElement::Key("iso_code")];

/// A database in MaxMind's format.
pub struct GeoIp(Reader<Vec<u8>>);

/// A database that cannot be used.
#[derive(Debug, Error)]
pub enum GeoIpError {
    /// The file cannot be read.
    #[error("{0}: {1}; name a readable file, or remove `gateway.geoip`")]
    Unreadable(PathBuf, io::Error),
    /// The file is broken, or is not a database.
    #[error("{0}: {1}; name a country database such as GeoLite2-Country.mmdb")]
    Malformed(PathBuf, MaxMindDbError),
    /// The database holds something other than countries.
    #[error("{0} is a database of type {1:?}; name a country database such as GeoLite2-Country.mmdb")]
    NoCountries(PathBuf, String),
}

impl GeoIp {
    /// Reads and verifies a database.
    ///
    /// # Errors
    /// Fails for anything that would make a country unknown later, when a rule would not be enforced.
    pub fn load(path: &Path) -> Result<Self, GeoIpError> {
        let bytes = std::fs::read(path).map_err(|e| GeoIpError::Unreadable(path.to_owned(), e))?;
        let malformed = |e| GeoIpError::Malformed(path.to_owned(), e);
        let reader = Reader::from_source(bytes).map_err(malformed)?;
        let kind = &reader.metadata().database_type;
        if !["Country", "City", "Enterprise"].iter().any(|known| kind.contains(known)) {
            return Err(GeoIpError::NoCountries(path.to_owned(), kind.clone()));
        }
        reader.verify().map_err(malformed)?;
        Ok(Self(reader))
    }
}

impl Countries for GeoIp {
    fn country_of(&self, address: IpAddr) -> Option<CountryCode> {
        let code: &str = self.0.lookup(address).ok()?.decode_path(&CODE).ok()??;
        code.parse().ok()
    }
}

impl fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GeoIp").field(&self.0.metadata().database_type).finish()
    }
}
