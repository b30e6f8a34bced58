//! Chooses the protocol, signs in, and selects the database of a new connection.

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult,
    ServerError, Value, cmd,
};

/// Prepares a new connection for requests. One round trip, or two with a server that does not know
/// HELLO, whatever it says to it.
pub(crate) async fn sign_in(
    connection: &mut MultiplexedConnection,
    settings: &RedisConnectionInfo,
    protocol: ProtocolVersion,
) -> RedisResult<()> {
    if protocol == ProtocolVersion::RESP2 {
        return sign_in_with_resp2(connection, settings).await;
    }
    let commands = [Some(hello(settings)), select(settings)];
    let mut replies = send(connection, commands).await?;
    match replies.next() {
        Some(Value::ServerError(error)) if refuses_password(Some(error.code()), settings) => {
            Err(password_refused(error))
        }
        Some(Value::ServerError(_)) => sign_in_with_resp2(connection, settings).await,
        _ => selected(replies.next()),
    }
}

async fn sign_in_with_resp2(
    connection: &mut MultiplexedConnection,
    settings: &RedisConnectionInfo,
) -> RedisResult<()> {
    let commands = [
        authenticate(settings.username(), settings),
        select(settings),
    ];
    let mut replies = send(connection, commands).await?;
    if settings.password().is_none() {
        return selected(replies.next());
    }
    match replies.next() {
        // Servers older than Redis 6 have one user, without a name.
        Some(Value::ServerError(error)) if takes_no_user_name(&error, settings) => {
            let commands = [authenticate(None, settings), select(settings)];
            let mut replies = send(connection, commands).await?;
            match replies.next() {
                Some(Value::ServerError(error)) => Err(password_refused(error)),
                _ => selected(replies.next()),
            }
        }
        Some(Value::ServerError(error)) => Err(password_refused(error)),
        _ => selected(replies.next()),
    }
}

async fn send(
    connection: &mut MultiplexedConnection,
    commands: impl IntoIterator<Item = Option<Cmd>>,
) -> RedisResult<std::vec::IntoIter<Value>> {
    let mut pipeline = Pipeline::new();
    for command in commands.into_iter().flatten() {
        pipeline.add_command(command);
    }
    let replies = if pipeline.is_empty() {
        Vec::new()
    } else {
        let count = pipeline.len();
        connection.send_packed_commands(&pipeline, 0, count).await?
    };
    Ok(replies.into_iter())
}

fn hello(settings: &RedisConnectionInfo) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg("3");
    if let Some(password) = settings.password() {
        let user = settings.username().unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password);
    }
    hello
}

fn authenticate(user: Option<&str>, settings: &RedisConnectionInfo) -> Option<Cmd> {
    let password = settings.password()?;
    let mut authenticate = cmd("AUTH");
    authenticate.arg(user).arg(password);
    Some(authenticate)
}

fn select(settings: &RedisConnectionInfo) -> Option<Cmd> {
    (settings.db() != 0).then(|| {
        let mut select = cmd("SELECT");
        select.arg(settings.db());
        select
    })
}

fn selected(reply: Option<Value>) -> RedisResult<()> {
    match reply {
        Some(Value::ServerError(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns whether the refusal of HELLO was that of the password, or of the lack of one.
pub(crate) fn refuses_password(code: Option<&str>, settings: &RedisConnectionInfo) -> bool {
    match code {
        Some("WRONGPASS") => true,
        // A proxy may want AUTH before any other command.
        Some("NOAUTH") => settings.password().is_none(),
        _ => false,
    }
}

fn takes_no_user_name(error: &ServerError, settings: &RedisConnectionInfo) -> bool {
    let detail = error.details().unwrap_or_default();
    settings.username().is_some() && detail.contains("wrong number of arguments")
}

fn password_refused(error: ServerError) -> RedisError {
    match error.code() {
        // The words depend on the version of the server.
        "ERR" => RedisError::from((
            ErrorKind::AuthenticationFailed,
            "Redis refused the password",
            error.details().unwrap_or_default().to_owned(),
        )),
        _ => error.into(),
    }
}
