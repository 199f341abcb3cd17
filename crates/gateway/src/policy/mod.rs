//! Policies: compiles human-readable files to a table of routes, and holds the only place where a request is judged.

mod addresses;
mod body;
mod compile;
mod cors;
mod decide;
mod decision;
mod denial;
mod error_style;
pub mod exact_json;
mod facts;
mod headers;
mod host;
mod permit;
mod reason;
mod route;
mod safe_path;
mod site;
mod source;
mod trace;
mod wire;

pub use self::addresses::{AddressRules, Countries, CountryCode, InvalidCountryCode};
pub use self::body::{BodyFault, BodyRule};
pub use self::compile::{PolicyText, compile, compile_after, compile_text};
pub use self::cors::{CorsAnswer, CorsPolicy, Origin, PreflightAnswer};
pub use self::decision::{Decision, PendingBody};
pub use self::denial::{Denial, Guess};
pub use self::error_style::{BasicChallenge, ErrorStyle};
pub use self::facts::{Addressing, Behind, RequestFacts};
pub use self::headers::{DEFAULT_REFERRER_POLICY, ReferrerPolicy, SecurityHeaders, is_discreet};
pub use self::permit::{Permit, Target};
pub use self::reason::Reason;
pub use self::route::{LimitBy, Route, RouteTable};
pub use self::safe_path::{Names, Parameters, SafePath, UnsafePath};
pub use self::site::{App, Site, Stated, host_name};
pub use self::source::{builtin, builtin_names};
pub use self::trace::{Step, Trace};
