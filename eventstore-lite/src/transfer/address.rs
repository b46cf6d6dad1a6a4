//! Connection strings of the official clients, for a single server.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use url::Url;

/// The timeout for connecting, and for a silent server on a connection.
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 2113;

/// The headers of every call.
#[derive(Clone)]
pub(super) struct Headers {
    authorization: Option<AsciiMetadataValue>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        headers.insert("requires-leader", AsciiMetadataValue::from_static("true"));
        if let Some(authorization) = &self.authorization {
            headers.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// The endpoint of the server, and the headers of every call.
///
/// # Errors
/// If the string cannot be used. The error quotes nothing from it but file names.
pub(super) fn parse(text: &str) -> Result<(Endpoint, Headers)> {
    let url = Url::parse(text).ok().filter(|url| {
        let is_one_server = ["esdb", "kurrentdb", "kdb"].contains(&url.scheme());
        is_one_server && url.host_str().is_some_and(|host| !host.is_empty())
    });
    let url = url.context(
        "the connection string must name one server: esdb://USER:PASSWORD@HOST:PORT?tls=true; for a cluster, name \
         the leader",
    )?;
    let (mut tls, mut authority) = (true, None);
    for (name, value) in url.query_pairs() {
        match name.to_lowercase().as_str() {
            "tls" => {
                tls = value
                    .to_lowercase()
                    .parse()
                    .context("`tls` must be true or false")?;
            }
            "tlscafile" => {
                let pem = std::fs::read(&*value).with_context(|| format!("reading {value}"))?;
                authority = Some(Certificate::from_pem(pem));
            }
            "tlsverifycert" => ensure!(
                value.eq_ignore_ascii_case("true"),
                "tlsVerifyCert=false is not supported: name the authority with tlsCaFile"
            ),
            "usercertfile" | "userkeyfile" => bail!("user certificates are not supported"),
            // Other parameters tune features that are not used here.
            _ => {}
        }
    }
    let scheme = if tls { "https" } else { "http" };
    let (host, port) = (url.host_str().unwrap_or_default(), url.port());
    let endpoint = Endpoint::from_shared(format!("{scheme}://{host}:{}", port.unwrap_or(PORT)))?
        .connect_timeout(PATIENCE)
        .http2_keep_alive_interval(PATIENCE)
        .keep_alive_timeout(PATIENCE);
    let endpoint = if tls {
        let config = ClientTlsConfig::new();
        endpoint.tls_config(match authority {
            Some(authority) => config.ca_certificate(authority),
            None => config.with_native_roots(),
        })?
    } else {
        endpoint
    };
    let authorization = credentials(&url)?;
    Ok((endpoint, Headers { authorization }))
}

fn credentials(url: &Url) -> Result<Option<AsciiMetadataValue>> {
    if url.username().is_empty() {
        return Ok(None);
    }
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    let (name, password) = (
        decoded(url.username()),
        decoded(url.password().unwrap_or_default()),
    );
    let header = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    Ok(Some(header.parse()?))
}
