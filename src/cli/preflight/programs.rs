//! Tries yt-dlp, ffmpeg, the JavaScript runtime and the sandbox in which they run.

use sallyport_core::config::Key;
use sallyport_gateway::policy::Site;
use sallyport_worker as worker;
use tokio::runtime::Builder;

use super::{Inspection, key};

impl Inspection<'_> {
    pub(super) fn programs(&mut self, site: &Site) {
        if !site.needs_worker(&self.config.worker.listen) {
            return;
        }
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
        for found in runtime.block_on(worker::trial(self.config)) {
            let way = if found.key == "sandbox" { vec![Key::table("insecure")] } else { key("worker", found.key) };
            if found.needed {
                self.fault(way, found.what);
            } else {
                self.warn(way, found.what);
            }
        }
    }
}
