//! Address rules: which client addresses may use a route, by network, by country, and by the names `lan` and `wan`.

use std::{cell::LazyCell, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use sallyport_core::addresses;
use thiserror::Error;

use super::reason::Reason;

/// The codes of ISO 3166-1, and XK, which databases use for Kosovo.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS \
    BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ \
    FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT \
    JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP \
    MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE \
    RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV \
    TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// Which client addresses may use a route; without any rule, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// If non-empty, the client must match one of these.
    pub(super) allow: Box<[AddressSet]>,
    /// The client must match none of these.
    pub(super) deny: Box<[AddressSet]>,
}

/// A set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSet {
    /// This machine and its local networks.
    Lan,
    /// Everything else.
    Wan,
    /// A network.
    Network(IpNet),
    /// The addresses that the database assigns to a country.
    Country(CountryCode),
}

/// A two-letter country code of ISO 3166-1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CountryCode([u8; 2]);

/// A database that maps addresses to countries.
pub trait Countries: fmt::Debug {
    /// Returns the country of an address, if it is known.
    fn country_of(&self, address: IpAddr) -> Option<CountryCode>;
}

/// A text that does not parse as a set of addresses.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidAddressSet {
    #[error(
        "{0:?} is not an address rule; write \"lan\", \"wan\", a network such as \"192.0.2.0/24\", an address, or \"country:DE\""
    )]
    Unknown(String),
    #[error("{0:?} has bits set beyond its prefix; write {1:?} for the network, or the address without a prefix")]
    Ambiguous(String, String),
    #[error("{0:?} is an IPv4-mapped address, which never matches a client; write the IPv4 network")]
    Mapped(String),
    #[error(transparent)]
    Country(#[from] InvalidCountryCode),
}

/// A text that is not a country code.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an ISO 3166-1 country code; write two capital letters, such as \"DE\" or \"GB\"")]
pub struct InvalidCountryCode(String);

impl AddressRules {
    /// Judges a client's address, with at most one look-up of its country. Without rules it costs nothing.
    pub(super) fn judge(&self, client: IpAddr, countries: Option<&dyn Countries>) -> Result<(), Reason> {
        if self.is_empty() {
            return Ok(());
        }
        let client = addresses::canonical(client);
        let country = LazyCell::new(|| countries?.country_of(client));
        let has_client = |place: &AddressSet| match place {
            AddressSet::Lan => addresses::is_local(client),
            AddressSet::Wan => !addresses::is_local(client),
            AddressSet::Network(network) => network.contains(&client),
            AddressSet::Country(code) => *country == Some(*code),
        };
        if self.deny.iter().any(has_client) || !(self.allow.is_empty() || self.allow.iter().any(has_client)) {
            return Err(Reason::AddressDenied);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

impl FromStr for AddressSet {
    type Err = InvalidAddressSet;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            _ => match text.strip_prefix("country:") {
                Some(code) => Ok(Self::Country(code.parse()?)),
                None => network(text).map(Self::Network),
            },
        }
    }
}

fn network(text: &str) -> Result<IpNet, InvalidAddressSet> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network =
        text.parse::<IpNet>().or_else(|_| address()).map_err(|_| InvalidAddressSet::Unknown(text.to_owned()))?;
    if network.trunc() != network {
        return Err(InvalidAddressSet::Ambiguous(text.to_owned(), network.trunc().to_string()));
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(InvalidAddressSet::Mapped(text.to_owned())),
        network => Ok(network),
    }
}

impl FromStr for CountryCode {
    type Err = InvalidCountryCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match *text.as_bytes() {
            [a, b] if COUNTRIES.split(' ').any(|code| code == text) => Ok(Self([a, b])),
            _ => Err(InvalidCountryCode(text.to_owned())),
        }
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows only that 198.51.100.0/24 is in Germany.
    #[derive(Debug)]
    struct Atlas;

    impl Countries for Atlas {
        fn country_of(&self, address: IpAddr) -> Option<CountryCode> {
            address.to_string().starts_with("198.51.100.").then(|| "DE".parse().unwrap())
        }
    }

    fn places(texts: &[&str]) -> Box<[AddressSet]> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admitted(allow: &[&str], deny: &[&str], client: &str) -> bool {
        let rules = AddressRules { allow: places(allow), deny: places(deny) };
        rules.judge(client.parse().unwrap(), Some(&Atlas)).is_ok()
    }

    #[test]
    fn every_address_is_in_the_lan_or_in_the_wan() {
        for local in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.0.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(admitted(&["lan"], &[], local) && !admitted(&["wan"], &[], local), "{local}");
        }
        for other in ["192.0.2.1", "172.32.0.1", "100.64.0.1", "2001:db8::1", "fec0::1", "::", "64:ff9b::a00:1"] {
            assert!(admitted(&["wan"], &[], other) && !admitted(&["lan"], &[], other), "{other}");
        }
        assert!(admitted(&["lan"], &[], "::ffff:10.1.2.3") && !admitted(&["lan"], &[], "::ffff:192.0.2.1"));
    }

    #[test]
    fn deny_wins_over_allow_and_unlisted_clients_are_denied() {
        assert!(admitted(&[], &[], "192.0.2.1"));
        assert!(admitted(&["192.0.2.0/24"], &[], "192.0.2.1") && !admitted(&["192.0.2.0/24"], &[], "192.0.3.1"));
        assert!(!admitted(&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1"));
        assert!(admitted(&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.2"));
        assert!(
            admitted(&["lan", "2001:db8::/32"], &[], "2001:db8::1") && !admitted(&["0.0.0.0/0"], &[], "2001:db8::1")
        );
    }

    #[test]
    fn an_address_of_unknown_country_is_in_no_country() {
        assert!(admitted(&["country:DE"], &[], "198.51.100.1") && !admitted(&["country:FR"], &[], "198.51.100.1"));
        assert!(!admitted(&["country:DE"], &[], "192.0.2.1") && admitted(&[], &["country:DE"], "192.0.2.1"));
        assert!(!admitted(&[], &["country:DE"], "::ffff:198.51.100.1"));
        let rules = AddressRules { allow: places(&["country:DE"]), deny: Box::default() };
        assert_eq!(rules.judge("198.51.100.1".parse().unwrap(), None), Err(Reason::AddressDenied));
    }

    #[test]
    fn ambiguous_address_rules_are_refused() {
        for text in ["", "LAN", "any", "nas.local", "192.0.2.0/33", "192.0.2.1-9", "192.0.2.1:80", "fe80::1%eth0"] {
            assert_eq!(text.parse::<AddressSet>(), Err(InvalidAddressSet::Unknown(text.to_owned())), "{text}");
        }
        let ambiguous = InvalidAddressSet::Ambiguous("192.168.1.5/24".to_owned(), "192.168.1.0/24".to_owned());
        assert_eq!("192.168.1.5/24".parse::<AddressSet>(), Err(ambiguous));
        for text in ["::ffff:192.0.2.1", "::ffff:192.0.2.0/120", "::ffff:0:0/96"] {
            assert_eq!(text.parse::<AddressSet>(), Err(InvalidAddressSet::Mapped(text.to_owned())));
        }
        for code in ["", "de", "UK", "EU", "D", "DEU", "D ", " "] {
            assert!(
                matches!(format!("country:{code}").parse::<AddressSet>(), Err(InvalidAddressSet::Country(_))),
                "{code:?}"
            );
        }
    }
}
