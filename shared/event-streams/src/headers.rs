//! The headers that every call sends to the server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The credentials, the name of the connection, and whether only the leader may answer.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    authorization: Option<MetadataValue<Ascii>>,
    connection_name: Option<MetadataValue<Ascii>>,
    requires_leader: bool,
}

impl Headers {
    /// # Errors
    ///
    /// If the connection name is not a valid header value.
    pub(crate) fn new(
        credentials: Option<(&str, &str)>,
        connection_name: Option<&str>,
        requires_leader: bool,
    ) -> Result<Self, InvalidMetadataValue> {
        let authorization = credentials.map(|(name, password)| {
            let credentials = STANDARD.encode(format!("{name}:{password}"));
            MetadataValue::try_from(format!("Basic {credentials}"))
        });
        let connection_name = connection_name.map(MetadataValue::try_from);
        Ok(Self {
            authorization: authorization.transpose()?,
            connection_name: connection_name.transpose()?,
            requires_leader,
        })
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        if let Some(authorization) = &self.authorization {
            headers.insert("authorization", authorization.clone());
        }
        if let Some(name) = &self.connection_name {
            headers.insert("connection-name", name.clone());
        }
        let requires_leader = if self.requires_leader {
            "true"
        } else {
            "false"
        };
        headers.insert(
            "requires-leader",
            MetadataValue::from_static(requires_leader),
        );
        Ok(request)
    }
}
