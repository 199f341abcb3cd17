//! Updates the zone at its primary server (RFC 2136), signed with a shared key (RFC 8945).

use std::{net::SocketAddr, time::Duration};

use hickory_net::{
    NetError,
    client::{Client, ClientHandle},
    runtime::TokioRuntimeProvider,
    tcp::TcpClientStream,
    xfer::DnsMultiplexer,
};
use hickory_proto::{
    ProtoError,
    dnssec::DnsSecError,
    op::ResponseCode,
    rr::{
        Name, RData, Record, TSigner,
        rdata::{TXT, tsig},
    },
};
use sallyport_core::config::acme::{AcmeKeyError, DnsUpdateConfig, TsigAlgorithm};
use secrecy::{ExposeSecret, SecretBox};
use thiserror::Error;
use tokio::time::timeout;

use super::dns_record::{ChallengeRecord, Change};

const TIMEOUT: Duration = Duration::from_secs(20);
/// The record's TTL in seconds: only the authority asks for it, and another record soon follows.
const TTL: u32 = 60;
/// How far the two clocks may differ, in seconds, as RFC 8945, section 10, recommends.
const FUDGE: u16 = 300;

/// The server, the zone and the key.
pub(super) struct Updates {
    config: DnsUpdateConfig,
    key: SecretBox<Vec<u8>>,
}

/// The reasons why the zone cannot be changed.
#[derive(Debug, Error)]
pub(super) enum UpdateError {
    /// A name is invalid.
    #[error("{0:?} is not a valid name: {1}")]
    Name(String, ProtoError),
    /// The key cannot be used.
    #[error("the key {0}: {1}")]
    Key(String, DnsSecError),
    /// The server cannot be reached, or its answer is not signed with the key.
    #[error("the server {0}: {1}")]
    Server(SocketAddr, NetError),
    /// The server does not answer.
    #[error("the server {0} did not answer within {TIMEOUT:?}")]
    Timeout(SocketAddr),
    /// The server refuses the update.
    #[error("the server {0} refused the update: {1}")]
    Refused(SocketAddr, ResponseCode),
}

impl Updates {
    /// Reads the key.
    pub(super) fn open(config: &DnsUpdateConfig) -> Result<Self, AcmeKeyError> {
        Ok(Self { config: config.clone(), key: config.key()? })
    }

    pub(super) async fn send(&self, change: Change, record: &ChallengeRecord) -> Result<(), UpdateError> {
        let sent = timeout(TIMEOUT, self.exchange(change, record)).await;
        match sent.unwrap_or(Err(UpdateError::Timeout(self.config.server)))? {
            ResponseCode::NoError => Ok(()),
            refusal => Err(UpdateError::Refused(self.config.server, refusal)),
        }
    }

    async fn exchange(&self, change: Change, record: &ChallengeRecord) -> Result<ResponseCode, UpdateError> {
        let server = |e| UpdateError::Server(self.config.server, e);
        let zone = name(&self.config.zone)?;
        let txt = txt(record)?;
        let (connecting, sender) =
            TcpClientStream::new(self.config.server, None, Some(TIMEOUT), TokioRuntimeProvider::new());
        let multiplexer = DnsMultiplexer::new(connecting.await.map_err(server)?, sender).with_signer(self.signer()?);
        let (mut client, background) = Client::<TokioRuntimeProvider>::from_sender(multiplexer);
        let background = tokio::spawn(background);
        let response = match change {
            Change::Add => client.append(txt, zone, false).await,
            Change::Remove => client.delete_by_rdata(txt, zone).await,
        };
        background.abort();
        Ok(response.map_err(server)?.response_code)
    }

    fn signer(&self) -> Result<TSigner, UpdateError> {
        let algorithm = match self.config.key_algorithm {
            TsigAlgorithm::HmacSha256 => tsig::TsigAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => tsig::TsigAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => tsig::TsigAlgorithm::HmacSha512,
        };
        let key_name = name(&self.config.key_name)?;
        let signer = TSigner::new(self.key.expose_secret().clone(), algorithm, key_name, FUDGE);
        signer.map_err(|e| UpdateError::Key(self.config.key_name.clone(), e))
    }
}

fn txt(record: &ChallengeRecord) -> Result<Record, UpdateError> {
    Ok(Record::from_rdata(name(&record.name)?, TTL, RData::TXT(TXT::new(vec![record.value.clone()]))))
}

fn name(text: &str) -> Result<Name, UpdateError> {
    let mut name = Name::from_ascii(text).map_err(|e| UpdateError::Name(text.to_owned(), e))?;
    name.set_fqdn(true);
    Ok(name)
}
