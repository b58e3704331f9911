"""Names: names under which values are secret whatever they look like, each with the shapes that its values take."""

from __future__ import annotations

ANY = ("hex", "base64", "letters", "words", "symbols", "numbers", "uuid")
PASSWORDS = ("hex", "letters", "words", "symbols", "numbers", "phrase")
CODES = ("numbers",)
ODD = ("quotes", "brackets", "scheme", "letters of others")

_PASSWORDS = """
password passwd passwort pwd pw pass passphrase pass_phrase passcode pass_code passkey user_password userpass
admin_password admin_pass root_password root_pass db_password db_pass db_pwd database_password
postgres_password pgpassword mysql_password mysql_pwd mysql_root_password mariadb_password mssql_sa_password
sa_password redis_password redis_pass mongo_password mongodb_password rabbitmq_password smtp_password
smtp_pass mail_password email_password ftp_password ftp_pass ssh_password sudo_password sudo_pass become_pass
ldap_password ldap_bind_password bind_password proxy_password keystore_password key_password
truststore_password store_password cert_password pfx_password p12_password vault_password ansible_password
wifi_password wpa_passphrase psk wpa_psk pre_shared_key login_password new_password old_password
current_password confirm_password password_confirmation temp_password temporary_password default_password
initial_password master_password backup_password encryption_password sftp_password svn_password git_password
docker_password registry_password npm_password nexus_password jenkins_password grafana_password
elastic_password kafka_password sasl_password snowflake_password sap_password es_password motdepasse
mot_de_passe contrasena contraseña senha kennwort wachtwoord lozenka heslo haslo parola salasana lösenord
пароль 密码 パスワード 비밀번호 credential credentials creds htpasswd passwords basic_auth_password http_password
"""

_SECRETS = """
secret secrets client_secret app_secret application_secret api_secret consumer_secret shared_secret
webhook_secret signing_secret session_secret cookie_secret jwt_secret jwt_secret_key oauth_secret
oauth_client_secret token_secret access_token_secret flask_secret_key django_secret_key secret_key
secret_key_base secret_access_key aws_secret_access_key aws_session_token nextauth_secret auth_secret
hmac_secret hmac_key hmac signature x_signature x_hub_signature encryption_key encrypt_key decryption_key
cipher_key aes_key private_key privatekey priv_key ssh_private_key ssh_key rsa_private_key signing_key
sign_key master_key root_key service_key service_account_key account_key storage_key storage_account_key
access_key access_key_secret shared_access_key api_key apikey x_api_key api_token apitoken token auth_token
authtoken access_token accesstoken refresh_token id_token bearer_token bearer session_token session_key
sessionid sid phpsessid jsessionid connect_sid csrf_token xsrf_token csrftoken x_csrf_token authorization
proxy_authorization x_auth_token auth_key auth_code authkey cookie set_cookie personal_access_token pat
github_token github_pat gh_token gitlab_token npm_token pypi_token hf_token huggingface_token openai_api_key
anthropic_api_key azure_openai_key cohere_api_key mistral_api_key gemini_api_key datadog_api_key dd_api_key
dd_app_key heroku_api_key cloudflare_api_token sentry_auth_token slack_bot_token discord_token telegram_token
twilio_auth_token sendgrid_api_key stripe_secret_key mailgun_api_key mapbox_token algolia_admin_key
pusher_secret okta_token auth0_client_secret circleci_token travis_token codecov_token sonar_token snyk_token
vault_token consul_token nomad_token rancher_token kube_token k8s_token service_account_token deploy_token
deploy_key bot_token app_token user_token device_token push_token fcm_server_key verification_token
reset_token activation_token invite_token magic_link_token subscription_key ocp_apim_subscription_key
functions_key x_functions_key license_key licence_key product_key recovery_key recovery_code backup_code
backup_codes mnemonic seed_phrase wallet_seed recovery_phrase pepper integrity_key zapier_key webhook_token
otp_secret totp_secret totp_seed mfa_secret two_factor_secret datasource_credential sas_token sas_key
saml_assertion client_assertion
"""

# They have shapes of their own below. The value of `pass` is a count or a verdict as well.
_SURE = ("password", "db_password", "pass")
_CODES = """
otp otp_code one_time_password totp pin pin_code pincode cvv cvc cvv2 security_code mfa_code sms_code verification_code
"""

NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((name, PASSWORDS) for name in _PASSWORDS.split() if name not in _SURE),
    *((name, (*PASSWORDS, *ODD)) for name in ("password", "db_password")),
    *((name, ("hex", "letters", "symbols")) for name in ("pass",)),
    *((name, ANY) for name in _SECRETS.split()),
    *((name, CODES) for name in _CODES.split()),
)
"""Each name in snake case, and the shapes of its values."""
