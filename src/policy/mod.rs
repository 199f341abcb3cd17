//! Policies: compiles human-readable files to a table of routes, and holds the only place where a request is judged.

mod addresses;
mod body;
mod compile;
mod cors;
mod decide;
mod decision;
mod denial;
mod headers;
mod host;
mod own_routes;
mod permit;
mod route;
mod safe_path;
mod site;
mod source;
mod trace;
mod wire;

pub use self::trace::{Step, Trace};
pub use addresses::{AddressRules, Countries, CountryCode, InvalidCountryCode};
pub use body::{BodyFault, BodyRule};
pub use compile::{compile, compile_after, compile_text};
pub use cors::{CorsAnswer, CorsPolicy, Origin, PreflightAnswer};
pub use decide::{Addressing, Behind, RequestFacts};
pub use decision::{Decision, PendingBody};
pub use denial::{BasicChallenge, Denial, ErrorStyle, Guess, Reason};
pub use headers::{DEFAULT_REFERRER_POLICY, ReferrerPolicy, SecurityHeaders, is_discreet};
pub use permit::{Permit, Target};
pub use route::{LimitBy, Route, RouteTable};
pub use safe_path::{Names, Parameters, SafePath, UnsafePath};
pub use site::{App, Site, Stated, host_name};
pub use source::{builtin, builtin_names};
