//! The database that knows which country an address is in: a file of the user's, read whole and checked whole at the start.

use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use maxminddb::{MaxMindDbError, PathElement, Reader};
use thiserror::Error;

use crate::policy::{Countries, CountryCode};

/// Where a record has the code, in every database of countries and cities.
const CODE: [PathElement<'static>; 2] = [PathElement::Key("country"), PathElement::Key("iso_code")];

/// A database in MaxMind's format.
pub struct GeoIp(Reader<Vec<u8>>);

/// A database that cannot be used.
#[derive(Debug, Error)]
pub enum GeoIpError {
    /// It cannot be read.
    #[error("{0}: {1}; name a readable file, or take `gateway.geoip` out")]
    Unreadable(PathBuf, io::Error),
    /// It is broken, or something else.
    #[error("{0}: {1}; name a database of countries such as GeoLite2-Country.mmdb")]
    Malformed(PathBuf, MaxMindDbError),
    /// It knows something else of addresses.
    #[error("{0} is a database of the type {1:?}; name one of countries such as GeoLite2-Country.mmdb")]
    NoCountries(PathBuf, String),
}

impl GeoIp {
    /// Reads a database.
    ///
    /// # Errors
    /// What would make a country unknown later, so that a rule would not hold.
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
