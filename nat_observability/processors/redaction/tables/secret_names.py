"""The names of fields: secret ones, those that only sound secret, and words that are not secret values."""

from __future__ import annotations


def _rows(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# A circumflex stands for the beginning of a word, a tilde for "only if the value looks random".
_PASSWORDS = _rows("""
*password* *passwd* *passphrase* *passcode* *passkey *passwrd* *pwd pass *^pw *bindpw *rootpw *userpw *adminpw *pswd
*admin_pass *app_pass *become_pass *bind_pass *db_pass *ftp_pass *http_pass *imap_pass *ldap_pass *login_pass
*mail_pass *mongo_pass *mqtt_pass *proxy_pass_word *redis_pass *root_pass *smtp_pass *sql_pass *ssh_pass *sudo_pass
*user_pass *wifi_pass *storepass *keypass *keystore_pass *default_pass *krb_pass *pop3_pass *rsync_pass *vault_pass
*master_pass *masterpass *pwhash *pw_hash *secret_question_answer *rediscli_auth *secret_answer
*secret_word *security_answer *htpasswd* *passwort* *kennwort* *wachtwoord*
*lösenord* *losenord* *salasana* *passord* *adgangskode* *contraseña* *contrasena* *^clave *mot_de_passe* *^mdp
*senha*
*^parola *parolă *parola_chiave *palavra_passe *palavra_chave *clave_secreta *clave_privada *clave_de_acceso
*zugangscode *zugangsschlüssel *zugangsschluessel *api_schlüssel *api_schluessel *geheimer_schlüssel *clé_secrète
*clé_api *clé_accès *clé_authentification *code_accès *jeton_accès *clé_de_chiffrement *clé_de_sécurité
*cle_api *cle_acces *code_acces *jeton_acces
*jeton *lozinka* *lozenka* *heslo* *haslo *hasło *jelszó* *jelszo* *^sifre *şifre* *kata_sandi* *mật_khẩu*
*пароль* *парола*
*пароля *密码* *密碼* *口令 *パスワード* *暗証番号* *비밀번호* *암호 *รหัสผ่าน* *पासवर्ड* *كلمة_المرور* *كلمة_السر* *סיסמה*
*κωδικός* *密钥 *令牌
*chave_secreta *chave_api *chave_de_api *chave_de_acesso *chave_privada *llave_secreta *llave_privada *clave_api
*clave_de_api *token_de_acesso *token_de_acceso *hemlig_nyckel *api_nyckel *hemmelig_nøkkel *api_nøkkel *api_nøgle
*api_sleutel *geheime_sleutel *toegangscode *toegangssleutel *wlan_schlüssel *wlan_schluessel *schlüssel_api
*privater_schlüssel *zugriffsschlüssel *zugriffsschluessel *klucz_api *tajny_klucz *klucz_prywatny *klucz_dostępu
*klíč_api *klic_api *api_klíč *tajný_klíč *gizli_anahtar *api_anahtar* *erişim_anahtar* *пин_код
*код_доступа *секретний_ключ *приватный_ключ *закрытый_ключ *토큰 *비밀키 *api_키 *액세스_키 *pääsyavain *api_avain
*salainen_avain *kunci_rahasia *kunci_api *khóa_bí_mật *khóa_api *mã_bí_mật *गुप्त_कुंजी *सीक्रेट_कुंजी *مفتاح_api
*مفتاح_سري
*رمز_الدخول *κλειδί_api *μυστικό_κλειδί *chiave_api *chiave_segreta *chiave_privata *codice_di_accesso *clé_privée
*cle_privee *cle_secrete *code_secret *phrase_secrète *apiキー *シークレット *访问密钥 *秘钥 *私鑰 *金鑰
*requirepass *masterauth *set_pass *x_pass
*секрет *токен *ключ_доступа *секретный_ключ *ключ_api *秘密鍵 *私钥 *인증키 *トークン *アクセスキー
""")
_SECRETS = _rows("""
*secret *secrets *secret_str *secret_bytes *secret_key* *secret_value* *secret_string *secret_binary *secret_id
*secret_hash *secret_data *secret_access* *client_secret* *^credential *credential *credentials *creds *^cred
*^mnemonic* *seed_phrase* *seed_words *wallet_seed *totp_seed *otp_seed *recovery_phrase* *recovery_code*
*recovery_key *backup_code* *backup_phrase *^psk *pre_shared_key *hmac *pepper *community_string *snmp_community
*saml_assertion *client_assertion *saml_response *^sas *^pfx *^privkey *priv_key *private_pem *geheimnis *zugangsdaten
*connection_secret *keystore_data
""")
_TOKENS = _rows("""
*token *token_value *token_secret *token_hash *auth_tokens *access_tokens *api_tokens *refresh_tokens *session_tokens
*bearer_tokens *bearer *^jwt *^jwe *^pat *csrf *xsrf *csrf_value *magic_link_token *^tok *session_cookie
*sessionid_cookie *phpsessid *jsessionid *aspsessionid* *connect_sid *^sid *sessionid *^sessid *cookie *cookies
*signature sig *^sig x_*_signature *signature_256 *jwt_assertion *oidc_data *^dpop *sec_websocket_protocol
*^subprotocol
*^subprotocols
""")
_AUTH = _rows("""
*authorization auth *http_auth *basic_auth *proxy_auth *x_auth *auth_header *auth_data *auth_string *auth_code
*authorization_code *code_verifier *device_code *activation_code *cvc_code *cvv_code *bearer_auth *^otp *otp_code
*totp *one_time_code *one_time_pin *verification_code *mfa_code *two_factor_code
*2fa_code *^2fa *security_code *sms_code *^pin *pin_code *pin_number *access_code *unlock_code *door_code cvv* *cvv
*cvv2 *cvc *cvc2 *^csc *card_verification_value
""")
_KEYS = _rows("""
*api_key* *access_key* *private_key* *account_key *activation_key *admin_key *aes_key *app_key *application_key
*auth_key *backup_key *cipher_key *client_key *client_key_data *consumer_key *cookie_key *credential_key *crypto_key
*csrf_key *customer_key *decrypt_key *decryption_key *deploy_key *deployment_key *encrypt_key *encryption_key
*fernet_key *function_key *functions_key *gpg_key *hmac_key *ingest_key *ingestion_key *instrumentation_key
*integration_key *integrity_key *jwt_key *licence_key *license_key *management_key *master_key *network_key *pgp_key
*product_key
*registration_key *root_key *rsa_key *sas_key *sdk_key *sealing_key *security_key *server_key *service_key
*session_key *shared_key *sign_key *signing_key *ssh_key *ssl_key *storage_key *stripe_key *subscription_key *tls_key
*unseal_key* *vault_key *webhook_key *wep_key *wifi_key *wpa_key *wpa2_key *wrapping_key *write_key *zapier_key
*unlock_key *wlan_key *azure_account_key* *service_role_key *anon_key *fcm_key *gcm_key *apns_key *firebase_key
*fastly_key *tacacs_key *radius_key
*ipsec_key *ike_key *vpn_key *tavily_key *qdrant_key *weaviate_key *serpapi_key *exa_key *jina_key *voyage_key
*replicate_key *together_key *fireworks_key *perplexity_key *xai_key *deepseek_key *openrouter_key *langchain_key
*langsmith_key *langfuse_key *elevenlabs_key *deepgram_key *assemblyai_key *nvidia_key *huggingface_key *notion_key
*airtable_key *heroku_key *algolia_key *mapbox_key *firecrawl_key *anthropic_key *openai_key *gemini_key *google_key
*aws_key *azure_key *groq_key *cohere_key *mistral_key *hf_key
*github_key *twilio_key *sendgrid_key *mailgun_key *slack_key *datadog_key *pinecone_key *maps_key *llm_key ~*^key
~*^assertion ~*^authentication ~*^sign ~*^license ~*^licence ~*^salt ~*^nonce ~*^webhook ~*^session
~*^apikeys ~*^ticket
""")
# What such a name is about, if it is not the secret itself: its length, its path, its type.
_ABOUT = _rows("""
active age alg algorithm alias arn attempts audience backend bits bucket budget bytes changed charset class column
columns config confirmed count counter counts created date days description disabled empty enabled endpoint entropy
env error errors exists expiration expired expires expiry exists field fields file filename files first format
generator hashed header headers history hours icon id_field index input input_type in interval invalid is_set issue
issuer kind label labels last len length level lifetime limit limits link location manager max max_age message
messages meta method methods metric min minutes missing mode model name names number_of options page param parameter
params path paths pattern permissions placeholder plural policies policy position prefix present prompt provider
providers ref refs regex region required requirement requirements reset retries rotation rules scheme schema scope
scopes seconds selector service set shown size source state stats status stdin store strategy strength style suffix
symbols template text_field time timeout title to tooltip total ttl type types uri url urls usage used valid
validation validator validity variable vault verified version visibility visible field_name key_name env_var arn_name
reference references type_hint
""")
_KEPT = (
    *(f"*^{word}" for word in _ABOUT),
    *_rows("""
    *max_age* *min_length* *max_length* *expires_in *expires_at *expires_on *changed_at *created_at *updated_at
    *issued_at *last_changed* *last_used* *time_to^* *time_per^* *cost_per^* *per_token *^num^* *^max^* *^min^*
    *^total^* *^has^* *^requires^* *^needs^* *^use^* *^uses^* *^show^* *^hide^* *^allow^* *^forgot^* *^no^*
    *^not^* *next_token *first_token *last_token *page_token *pagination_token *continuation_token *^sync_token
    *delta_token *skip_token *resume_token *progress_token *cancellation_token *change_token *special_token
    *stop_token *end_token *start_token *prompt_token *completion_token *input_token *output_token *image_token
    *audio_token *video_token *previous_token *current_token *tool_token *syntax_token *design_token *special_tokens
    *reward_token *cursor_token bos_token cls_token eos_token mask_token pad_token sep_token unk_token
    *unexpected_token *invalid_token *unknown_token api_key_auth *^public^* *public_key *primary_key *foreign_key
    *cache_key *sort_key *partition_key *routing_key *idempotency_key *object_key *s3_key *dedup_key *row_key
    *group_key *range_key *lookup_key *message_key *event_key *feature_key *project_key *issue_key *publishable_key
    *host_key *node_key *build_key *file_key *blob_key *content_key *artifact_key *document_key *entity_key
    *translation_key *dict_key *map_key *url_key *parent_key *shard_key *hash_key *access_key_auth *function_signature
    *method_signature *type_signature *call_signature *^sign_in^* *token_ids *password_field* *secret_name*
    *secret_manager* *secret_key_ref *access_key_count *secret_version
"""),
)

DEFAULT_KEYS: tuple[str, ...] = (
    *_PASSWORDS,
    *_SECRETS,
    *_TOKENS,
    *_AUTH,
    *_KEYS,
    *(f"!{key}" for key in _KEPT),
    *_rows("""
    ~*^session^id *maiden_name *facebook_page_token *fb_page_token *docker_auth_config *auth_header *secret_bytes
    *password_bytes ~*key_bytes ~*token_bytes
    """),
)
"""
Names of fields whose values never leave the process by default. A `!` marks exceptions, `*` stands for any
characters,
`^` for the beginning of a word, and a `~` says that only a value that looks random is secret.
"""

# How much has passed, or whether it has; whether a token is valid; what a field must be.
VERDICTS = """
n/a yes no y n on off ok true false none null nil undefined pass passed passes passing fail failed fails failure
failing
success succeeded error errors skip skipped warn warning partial pending unknown done all always never required
optional valid invalid expired missing empty unset set present absent enabled disabled active inactive revoked changed
unchanged updated wrong incorrect correct accepted rejected denied needed unused used default redacted hidden masked
removed omitted todo tbd obrigatorio obrigatoria obligatorio obligatoria obligatoire requerido requerida requis
requise
erforderlich pflichtfeld vereist verplicht richiesto richiesta obbligatorio obbligatoria include same-origin
same-site inherit lax
obrigatória obrigatório
обязателен обязательно обязательный обязательна требуется неверный верный истёк истек нет да
必填 必須 필수
""".encode().split()
TYPES = rb"""
str string text bytes int integer number float bool boolean object array list dict map any char varchar byte secretstr
secretbytes uuid buffer unknown never void function null id hex base64 base64url utf8 utf-8 ascii latin1 binary
""".split()
# The words of sentences, which no passphrase is made of.
SENTENCE_WORDS = rb"""
a an the and or but if of for from in into on at to by with without as is are was were be been it its this that these
those your you my our their his her he she they we i not must should may might can could cannot will would do does did
has have had what which who when where why how than then there here so too very please see use set enter choose click
keep type two one three first second how best all any each every no only same
""".split()
# Those with which one begins behind a colon, and which a passphrase may have.
FIRST_WORDS = rb"""
nobody somebody anybody everybody someone anyone everyone nothing something ask tell see sent send stored written
write
generated given goes comes depends make sure just let also both either neither after before during until while because
""".split()
KEYWORDS = rb"""
await new lambda if else not return yield typeof function async const let var import from def class raise throw pass
continue break for while self this super print assert del delete case switch static public private protected final
""".split()
