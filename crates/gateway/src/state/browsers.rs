//! The paths that browsers, phones and crawlers request automatically from every site, whether or not it has them.

use http::Method;

/// Names at the top of a site: icons, manifests, service workers of an earlier app, and files for robots.
const NAMES: [&str; 22] = [
    "ads.txt",
    "app-ads.txt",
    "apple-app-site-association",
    "browserconfig.xml",
    "crossdomain.xml",
    "favicon.ico",
    "favicon.png",
    "favicon.svg",
    "humans.txt",
    "manifest.json",
    "manifest.webmanifest",
    "mstile-144x144.png",
    "opensearch.xml",
    "robots.txt",
    "security.txt",
    "service-worker.js",
    "serviceworker.js",
    "site.webmanifest",
    "sitemap.xml",
    "sitemap_index.xml",
    "sw.js",
    "traffic-advice",
];

/// Returns true for a request that software makes without its user, so that it says nothing about that user.
pub(crate) fn asked_by_itself(method: &Method, path: &str) -> bool {
    let Some(name) = path.strip_prefix('/').filter(|_| matches!(*method, Method::GET | Method::HEAD)) else {
        return false;
    };
    NAMES.contains(&name) || name.starts_with(".well-known/") || is_icon(name)
}

/// `apple-touch-icon.png`, `apple-touch-icon-152x152-precomposed.png`, `favicon-32x32.png`, `android-chrome-192x192.png`.
fn is_icon(name: &str) -> bool {
    let sizes = ["apple-touch-icon", "favicon-", "android-chrome-"].iter().find_map(|start| name.strip_prefix(start));
    let sizes = sizes.and_then(|rest| rest.strip_suffix(".png"));
    sizes.is_some_and(|sizes| {
        sizes.trim_end_matches("-precomposed").bytes().all(|b| b.is_ascii_digit() || b"-x".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_requests_of_browsers_are_distinguished_from_probes() {
        let get = |path: &str| asked_by_itself(&Method::GET, path);
        for path in [
            "/favicon.ico",
            "/apple-touch-icon.png",
            "/apple-touch-icon-precomposed.png",
            "/apple-touch-icon-120x120-precomposed.png",
            "/favicon-32x32.png",
            "/site.webmanifest",
            "/robots.txt",
            "/.well-known/change-password",
            "/.well-known/appspecific/com.chrome.devtools.json",
            "/apple-app-site-association",
        ] {
            assert!(get(path), "{path}");
        }
        for path in ["/", "", "/.env", "/x/favicon.ico", "/.well-known", "/favicon.ico/", "/apple-touch-icon-../x.png"]
        {
            assert!(!get(path), "{path}");
        }
        assert!(!asked_by_itself(&Method::POST, "/favicon.ico"));
    }
}
