"""Kinds of texts that carry secrets in a form of their own, and of texts that only look like it."""

# ruff: noqa: E501, RUF001

from __future__ import annotations

import json
from typing import Any

import pytest

from nat_observability.processors import Redactor
from tests.processors.builders import a_span

REDACTOR = Redactor()
HASHED = Redactor(hash_key=b"k" * 16)
SECRET = "k9Xm2Qw7Tz"

# Each has the secret somewhere.
KINDS: dict[str, list[str]] = {
    'comparisons of tests and checks': [
        'assertEquals("k9Xm2Qw7Tz", password)',
        'assertEquals(user.password, "k9Xm2Qw7Tz")',
        "self.assertEqual(settings.api_key, 'k9Xm2Qw7Tz')",
        "assert_equal 'k9Xm2Qw7Tz', password",
        'require.Equal(t, "k9Xm2Qw7Tz", cfg.Password)',
        'if (strcmp(password, "k9Xm2Qw7Tz") == 0) {',
        'expect(password).toBe("k9Xm2Qw7Tz")',
        "expect(user.apiToken).not.toEqual('k9Xm2Qw7Tz');",
        'assertThat(password).isEqualTo("k9Xm2Qw7Tz");',
        'if (password.equals("k9Xm2Qw7Tz")) {',
        'if ("k9Xm2Qw7Tz".equals(password)) {',
        'password_field.send_keys("k9Xm2Qw7Tz")',
    ],
    'names with what they are of in brackets': [
        'password(bob): k9Xm2Qw7Tz',
        'Password (bob): k9Xm2Qw7Tz',
        'api key (staging) = k9Xm2Qw7Tz',
        '**Password** (admin): k9Xm2Qw7Tz',
        'token (prod): "k9Xm2Qw7Tz"',
        'password[bob]: k9Xm2Qw7Tz',
    ],
    'signs in columns': [
        '  ~ admin_password                   = "k9Xm2Qw7Tz" -> (known after apply)',
        'password                    : k9Xm2Qw7Tz',
    ],
    'French': [
        "clé d'API: k9Xm2Qw7Tz",
        'clé d\u2019API : k9Xm2Qw7Tz',
        "La clé d'API est k9Xm2Qw7Tz",
        "jeton d'accès = k9Xm2Qw7Tz",
        "CLÉ D'API=k9Xm2Qw7Tz",
        'CLÉ API=k9Xm2Qw7Tz',
        '{"clé d\'API": "k9Xm2Qw7Tz"}',
    ],
    'cookies': [
        'Cookie: theme=dark; sessionid=k9Xm2Qw7Tz; x=1',
        'Set-Cookie: sessionid=k9Xm2Qw7Tz; Path=/',
        "curl -b 'theme=dark; sid=k9Xm2Qw7Tz' https://x.io",
        'curl -b session=k9Xm2Qw7Tz https://x.io',
    ],
    'labels of fields': [
        '<label>Password</label><input value="k9Xm2Qw7Tz">',
        '<label for="x">API key:</label>\n  <div class="f"><input type="text" value="k9Xm2Qw7Tz"></div>',
    ],
    'masks of jobs': [
        '::add-mask::k9Xm2Qw7Tz',
        'note=my+password+is+k9Xm2Qw7Tz&x=1',
        "hashlib.pbkdf2_hmac('sha256', b'k9Xm2Qw7Tz', salt, 100000)",
        "crypto.pbkdf2Sync('k9Xm2Qw7Tz', salt, 1000, 64)",
    ],
    'codes in URLs': [
        'GET /cb?code=k9Xm2Qw7Tz&state=1',
        'http://localhost:8080/?code=4/0AX4XfWhk9Xm2Qw7Tzabc&scope=email',
        'code=k9Xm2Qw7Tz&grant_type=authorization_code&redirect_uri=https%3A%2F%2Fx',
        'grant_type=authorization_code&code=k9Xm2Qw7Tz&client_id=abc',
        'https%3A%2F%2Fx.io%2Fcb%3Fcode%3Dk9Xm2Qw7Tz%26state%3D1',
    ],
    'Basic credentials': [
        'Basic bob-k9Xm2Qw7Tzxyzabcd12',
    ],
    'lists of arguments': [
        "Command '['mysql', '-pk9Xm2Qw7Tz']' returned non-zero exit status 1.",
        '["mysqldump", "-u", "root", "-pk9Xm2Qw7Tz", "shop"]',
        '{"args": ["/usr/bin/curl", "-u", "bob:k9Xm2Qw7Tz", "http://x.io"]}',
        'ran ["sudo", "curl", "-sSu", "bob:k9Xm2Qw7Tz", "http://x.io"]',
        '["sudo", "-n", "redis-cli", "-a", "k9Xm2Qw7Tz"]',
        'subprocess.run(["sshpass", "-p", "k9Xm2Qw7Tz", "ssh", "host"], check=True)',
        "spawn('docker', ['login', '-u', 'bob', '-p', 'k9Xm2Qw7Tz'])",
        'CMD ["docker", "login", "-p", "k9Xm2Qw7Tz", "registry.example"]',
        '{"cmd": "[\\"mysql\\", \\"-pk9Xm2Qw7Tz\\"]"}',
        '[["zip", "-P", "k9Xm2Qw7Tz", "a.zip"]]',
    ],
    'entities': [
        'password&quot;:&quot;k9Xm2Qw7Tz&quot;',
        '{&quot;user&quot;:&quot;bob&quot;,&quot;password&quot;:&quot;k9Xm2Qw7Tz&quot;}',
        'password&#61;k9Xm2Qw7Tz',
        'password&#x3d;k9Xm2Qw7Tz',
        'password&#58; k9Xm2Qw7Tz',
        '&#112;assword=k9Xm2Qw7Tz',
        'password&#x3A;k9Xm2Qw7Tz',
        '&lt;password&gt;k9Xm2Qw7Tz&lt;/password&gt;',
        '<input name=&quot;password&quot; value=&quot;k9Xm2Qw7Tz&quot;>',
        '&amp;lt;password&amp;gt;k9Xm2Qw7Tz&amp;lt;/password&amp;gt;',
        'api&#95;key=k9Xm2Qw7Tz',
        'password&colon;k9Xm2Qw7Tz',
        'password&equals;k9Xm2Qw7Tz',
        'token&nbsp;:&nbsp;k9Xm2Qw7Tz',
        'password&nbsp;=&nbsp;k9Xm2Qw7Tz',
    ],
    'escapes': [
        'password\\x3dk9Xm2Qw7Tz',
        '\\x70assword=k9Xm2Qw7Tz',
        '{\\x22password\\x22:\\x22k9Xm2Qw7Tz\\x22}',
        '\\x22token\\x22: \\x22k9Xm2Qw7Tz\\x22',
        '\\U00000070assword=k9Xm2Qw7Tz',
        '\\u{70}assword=k9Xm2Qw7Tz',
    ],
    'JSON in JSON': [
        'said {"a": "{\\"v\\": \\"my password is k9Xm2Qw7Tz, ok\\"}"}',
        'said {"a": "{\\"a\\": \\"{\\\\\\"v\\\\\\": \\\\\\"my password is k9Xm2Qw7Tz, ok\\\\\\"}\\"}"}',
        'said {"a": "{\\"a\\": \\"{\\\\\\"a\\\\\\": \\\\\\"{\\\\\\\\\\\\\\"v\\\\\\\\\\\\\\": \\\\\\\\\\\\\\"my password is k9Xm2Qw7Tz, ok\\\\\\\\\\\\\\"}\\\\\\"}\\"}"}',
    ],
    'commands': [
        "read -r PASSWORD <<< 'k9Xm2Qw7Tz'",
        'PASSWORD=$(echo k9Xm2Qw7Tz)',
        "echo 'k9Xm2Qw7Tz' > password.txt",
        "printf 'k9Xm2Qw7Tz' | gh auth login --with-token",
        'sshpass -pk9Xm2Qw7Tz ssh bob@h',
        'net user bob k9Xm2Qw7Tz /add',
        'echo bob:k9Xm2Qw7Tz | chpasswd',
        'useradd -p k9Xm2Qw7Tz bob',
        'gh secret set API_KEY -b"k9Xm2Qw7Tz"',
        'wrangler secret put TOKEN <<< k9Xm2Qw7Tz',
        'npm config set //r/:_authToken k9Xm2Qw7Tz',
        'setx /M API_KEY k9Xm2Qw7Tz',
        "$password = ConvertTo-SecureString 'k9Xm2Qw7Tz' -AsPlainText -Force",
        'ConvertTo-SecureString -String "k9Xm2Qw7Tz" -AsPlainText',
        "New-Object PSCredential('bob', (ConvertTo-SecureString 'k9Xm2Qw7Tz' -AsPlainText -Force))",
        'keytool -storepass k9Xm2Qw7Tz -keypass k9Xm2Qw7Tz',
        'rclone config create r s3 secret_access_key k9Xm2Qw7Tz',
        'mc alias set m https://h AKIA k9Xm2Qw7Tz12',
        'ldapsearch -x -D cn=a -wk9Xm2Qw7Tz -b dc',
        'twine upload -u __token__ -p k9Xm2Qw7Tz dist/*',
        'poetry config pypi-token.pypi k9Xm2Qw7Tz',
        'poetry config http-basic.foo bob k9Xm2Qw7Tz',
        'composer config github-oauth.github.com k9Xm2Qw7Tz',
        'bundle config gems.x.com bob:k9Xm2Qw7Tz',
        'cargo login k9Xm2Qw7Tz',
        'gem push --key k9Xm2Qw7Tz',
        'nmcli dev wifi connect home password k9Xm2Qw7Tz',
        'wpa_passphrase home k9Xm2Qw7Tz',
        'doctl auth init -t k9Xm2Qw7Tz',
        'ngrok config add-authtoken k9Xm2Qw7Tz',
        'ngrok authtoken k9Xm2Qw7Tz',
        'wandb login k9Xm2Qw7Tz12abc34',
        'ipmitool -H h -U a -P k9Xm2Qw7Tz power',
        'snmpwalk -v3 -A k9Xm2Qw7Tz -X k9Xm2Qw7Tz h',
        'snmpwalk -v2c -c k9Xm2Qw7Tz h',
        'winrm -p:k9Xm2Qw7Tz -u:bob',
        'psexec \\\\h -u bob -p k9Xm2Qw7Tz cmd',
        'xfreerdp /u:bob /p:k9Xm2Qw7Tz /v:h',
        'rdesktop -u bob -p k9Xm2Qw7Tz h',
        'vncpasswd -f <<<k9Xm2Qw7Tz',
        'cryptsetup luksOpen d n <<< k9Xm2Qw7Tz',
        'spawn ssh; expect "assword:"; send "k9Xm2Qw7Tz\\r"',
        'sudo -S <<< k9Xm2Qw7Tz ls',
        'echo k9Xm2Qw7Tz | sudo -S ls',
        'curl -ubob:k9Xm2Qw7Tz x',
        'curl -sSLu bob:k9Xm2Qw7Tz x',
        'curl -E c.pem:k9Xm2Qw7Tz x',
        'curl --cert c.pem:k9Xm2Qw7Tz x',
    ],
    'values to their end': [
        'password: {{k9Xm2Qw7Tz',
        'password: <k9Xm2Qw7Tz',
        'password=a<k9Xm2Qw7Tz',
        'Authorization: Bearer\r\n k9Xm2Qw7Tz',
        'password: !ENV k9Xm2Qw7Tz',
        'password: &pw k9Xm2Qw7Tz',
        'password = <<EOF\nk9Xm2Qw7Tz\nEOF',
        "password = $'k9Xm2Qw7Tz'",
        "password = E'k9Xm2Qw7Tz'",
        "password = N'k9Xm2Qw7Tz'",
        'password = L"k9Xm2Qw7Tz"',
        'password = u8"k9Xm2Qw7Tz"',
        'password ⇒ k9Xm2Qw7Tz',
        'password ≔ k9Xm2Qw7Tz',
        'password - k9Xm2Qw7Tz',
        'password – k9Xm2Qw7Tz',
        'password — k9Xm2Qw7Tz',
        'password/k9Xm2Qw7Tz',
        'creds bob:k9Xm2Qw7Tz',
        'user:bob pass:k9Xm2Qw7Tz',
        'login bob with k9Xm2Qw7Tz as password',
        'password (k9Xm2Qw7Tz)',
        'password [k9Xm2Qw7Tz]',
        'password <k9Xm2Qw7Tz>',
        'password k9Xm2Qw7Tz',
        "password?='k9Xm2Qw7Tz'",
        'password ?= k9Xm2Qw7Tz',
        "password <- 'k9Xm2Qw7Tz'",
        "password <<= 'k9Xm2Qw7Tz'",
        'password~k9Xm2Qw7Tz',
        "'k9Xm2Qw7Tz' == password",
        "if 'k9Xm2Qw7Tz' in password: pass",
        "assert user.check_password('k9Xm2Qw7Tz')",
        'hash_password("k9Xm2Qw7Tz")',
        "verifyPassword('k9Xm2Qw7Tz', hash)",
        "bcrypt.hashpw(b'k9Xm2Qw7Tz', salt)",
        "imap.login(user, 'k9Xm2Qw7Tz')",
        'new NetworkCredential("bob", "k9Xm2Qw7Tz")',
        "authenticate(username, 'k9Xm2Qw7Tz')",
        'DriverManager.getConnection(url, "sa", "k9Xm2Qw7Tz")',
        "mysqli_connect('h','root','k9Xm2Qw7Tz','db')",
        "new PDO($dsn, 'root', 'k9Xm2Qw7Tz')",
        'http.Header{"X-Api-Key": []string{"k9Xm2Qw7Tz"}}',
        'basicAuth("bob", "k9Xm2Qw7Tz")',
        "jwt.encode(payload, 'k9Xm2Qw7Tz', algorithm='HS256')",
        "jwt.sign(payload, 'k9Xm2Qw7Tz')",
        'jwt.verify(token, "k9Xm2Qw7Tz")',
        "hmac.new(b'k9Xm2Qw7Tz', msg, 'sha256')",
        "crypto.createHmac('sha256', 'k9Xm2Qw7Tz')",
        "Fernet(b'k9Xm2Qw7Tz')",
        "AES.new(b'k9Xm2Qw7Tz123456', AES.MODE_CBC)",
        "cookieParser('k9Xm2Qw7Tz')",
    ],
    'forms of code, tools and prose': [
        'api_key: "str" = \'k9Xm2Qw7Tz\'',
        "api_key: SecretStr = Field('k9Xm2Qw7Tz', repr=False)",
        "api_key: str = Field(default='k9Xm2Qw7Tz')",
        "const apiKey = <string>'k9Xm2Qw7Tz';",
        'private val password by lazy { "k9Xm2Qw7Tz" }',
        'var token: String { return "k9Xm2Qw7Tz" }',
        'var token: String { "k9Xm2Qw7Tz" }',
        'String getPassword() { return "k9Xm2Qw7Tz"; }',
        "def get_password():\n    return 'k9Xm2Qw7Tz'",
        "def password(self): return 'k9Xm2Qw7Tz'",
        "get password() { return 'k9Xm2Qw7Tz'; }",
        'func apiKey() string { return "k9Xm2Qw7Tz" }',
        "const getToken = () => 'k9Xm2Qw7Tz';",
        "token: () => 'k9Xm2Qw7Tz'",
        "password = lambda: 'k9Xm2Qw7Tz'",
        'constexpr std::string_view password{"k9Xm2Qw7Tz"};',
        'std::string password("k9Xm2Qw7Tz");',
        'std::string password{"k9Xm2Qw7Tz"};',
        'NSString *password = @"k9Xm2Qw7Tz";',
        '#define PASSWORD @"k9Xm2Qw7Tz"',
        'static NSString * const kToken = @"k9Xm2Qw7Tz";',
        'password <- "k9Xm2Qw7Tz"',
        "password = x if x else 'k9Xm2Qw7Tz'",
        "password ?: 'k9Xm2Qw7Tz'",
        'password ?: "k9Xm2Qw7Tz"',
        'os.Getenv("API_KEY") // "k9Xm2Qw7Tz"',
        'env::var("API_KEY").unwrap_or("k9Xm2Qw7Tz".into())',
        "getattr(settings, 'API_KEY', 'k9Xm2Qw7Tz')",
        "click.option('--password', default='k9Xm2Qw7Tz')",
        "parser.add_argument('--password', default='k9Xm2Qw7Tz')",
        '@click.option("--token", "-t", default="k9Xm2Qw7Tz")',
        "setattr(self, 'password', 'k9Xm2Qw7Tz')",
        'builder.password("k9Xm2Qw7Tz")',
        '.password("k9Xm2Qw7Tz")',
        ".apiKey('k9Xm2Qw7Tz')",
        '.bearerAuth("k9Xm2Qw7Tz")',
        '.bearer_auth("k9Xm2Qw7Tz")',
        "keyring.set_password('svc', 'bob', 'k9Xm2Qw7Tz')",
        'I typed k9Xm2Qw7Tz into the password field',
        'Enter `k9Xm2Qw7Tz` in the Password box',
        'Input text "k9Xm2Qw7Tz" into element 5: Password',
        'settings -> password\n  str type expected (type=type_error.str; input=k9Xm2Qw7Tz)',
        'password: Input should be a valid integer, unable to parse [input=k9Xm2Qw7Tz]',
        'ALTER USER bob IDENTIFIED BY k9Xm2Qw7Tz;',
        "CREATE LOGIN bob WITH PASSWORD = N'k9Xm2Qw7Tz', CHECK_POLICY = ON",
        "pgp_sym_encrypt(data, 'k9Xm2Qw7Tz')",
        "crypt('k9Xm2Qw7Tz', gen_salt('bf'))",
        "AES_DECRYPT(x, 'k9Xm2Qw7Tz')",
        '331 Password required\n> PASS k9Xm2Qw7Tz',
        '*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$10\r\nk9Xm2Qw7Tz\r\n',
        'NICKSERV IDENTIFY k9Xm2Qw7Tz',
        '/msg NickServ identify bob k9Xm2Qw7Tz',
        '<tr><td><b>API key</b></td><td><code>k9Xm2Qw7Tz</code></td></tr>',
        '<setting name="ApiKey" serializeAs="String"><value>k9Xm2Qw7Tz</value></setting>',
        '<div class="password">k9Xm2Qw7Tz</div>',
        '<li>Password: <code>k9Xm2Qw7Tz</code></li>',
        '<p>Your password is <strong>k9Xm2Qw7Tz</strong></p>',
        'user|password\nbob|k9Xm2Qw7Tz\n',
        'https://x/?key=k9Xm2Qw7Tz',
        'https://x/?code=k9Xm2Qw7Tz',
        'bob:k9Xm2Qw7Tz@db.example.com',
        'bob:k9Xm2Qw7Tz@10.0.0.1:5432/shop',
        'root:k9Xm2Qw7Tz@tcp(db:3306)/shop',
        'admin:k9Xm2Qw7Tz@localhost',
        'jdbc:oracle:thin:bob/k9Xm2Qw7Tz@h:1521/x',
        'sqlplus bob/k9Xm2Qw7Tz@db',
        'bob/k9Xm2Qw7Tz@//h:1521/x',
        '{"kty":"RSA","n":"x","e":"AQAB","d":"k9Xm2Qw7Tzk9Xm2Qw7Tz"}',
        '{"kty":"oct","k":"k9Xm2Qw7Tzk9Xm2Qw7Tz"}',
        '---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nk9Xm2Qw7Tzk9Xm2Qw7Tz\n---- END SSH2 ENCRYPTED PRIVATE KEY ----',
        '<RSAKeyValue><Modulus>abc</Modulus><Exponent>AQAB</Exponent><D>k9Xm2Qw7Tzk9Xm2Qw7Tz</D></RSAKeyValue>',
        '-----BEGIN OpenVPN Static key V1-----\nk9Xm2Qw7Tzk9Xm2Qw7Tz\n-----END OpenVPN Static key V1-----',
        "the secret's k9Xm2Qw7Tz",
        "password's k9Xm2Qw7Tz",
        'pwd k9Xm2Qw7Tz',
        'use password k9Xm2Qw7Tz to log in',
        'log in with bob and k9Xm2Qw7Tz (password)',
        'Your API key has been created: k9Xm2Qw7Tz',
        'Generated password k9Xm2Qw7Tz for user bob',
        'Try k9Xm2Qw7Tz as the password',
        "It's k9Xm2Qw7Tz, the password for the wifi",
        'WIFI:S:home;T:WPA;P:k9Xm2Qw7Tz;;',
        'Das Passwort lautet k9Xm2Qw7Tz',
        'Mein Passwort ist k9Xm2Qw7Tz',
        'le mot de passe est k9Xm2Qw7Tz',
        'la contraseña es k9Xm2Qw7Tz',
        'a senha é k9Xm2Qw7Tz',
        'пароль — k9Xm2Qw7Tz',
        'パスワードはk9Xm2Qw7Tzです',
        '비밀번호는 k9Xm2Qw7Tz 입니다',
        'My SSN is 123-45-6789 and password k9Xm2Qw7Tz',
    ],
    'odd characters': [
        'password∶ k9Xm2Qw7Tz',
        'passwordː k9Xm2Qw7Tz',
        'password꞉ k9Xm2Qw7Tz',
        '\\033[32mpassword\\033[0m: k9Xm2Qw7Tz',
        '\\e[1mpassword\\e[0m=k9Xm2Qw7Tz',
        '\x1b]8;;https://x\x07password\x1b]8;;\x07: k9Xm2Qw7Tz',
        'PASSWORD\u2003k9Xm2Qw7Tz',
    ],
}  # fmt: skip

# Nothing in them is secret.
HARMLESS: list[Any] = [
    'q=The+password+is+required%2C+please',
    'a=1&q=%22The+token+is+optional.%22&b=2',
    'q=the+password+is+wrong%21+try+again',
    'Password strength: weak, fair, good, strong',
    'Passwords: 3 of 5 users have weak ones.',
    'let token = env::var("API_TOKEN")?;\nlet password = rpassword::prompt_password("Password: ")?;\nstruct Auth { token: String, secret: Option<String> }\nmatch token { Token::Ident(name) => name, Token::Number(n) => n.to_string() }\n',
    'services:\n  web:\n    environment:\n      - API_KEY=${API_KEY}\n      - DB_PASSWORD\n    secrets:\n      - db_password\nsecrets:\n  db_password:\n    file: ./db_password.txt\n  api_token:\n    external: true\n',
    'apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - env:\n    - name: PASSWORD\n      valueFrom:\n        secretKeyRef:\n          name: db\n          key: password\n  serviceAccountName: default\n  automountServiceAccountToken: false\n  imagePullSecrets:\n  - name: regcred\n',
    'auth:\n  enabled: true\n  provider: github\n  session:\n    timeout: 30m\n    cookie:\n      secure: true\n      sameSite: lax\n',
    "PASSWORD_RE = re.compile(r'(?i)password\\s*[:=]\\s*(\\S+)')",
    'token: /[A-Za-z0-9_-]{20,}/',
    "{'type': 'identifier', 'token': 'foo', 'start': 0, 'end': 3}",
    'Options:\n  --token TEXT      Access token  [env var: TOKEN; required]\n  --password        Prompt for the password\n  --secret-file PATH\n  -k, --key TEXT    Sort key\n',
    'usage: app [-h] [--api-key API_KEY] [--password PASSWORD] [--auth {none,basic,token}]',
    {'token': 'Hello', 'index': 0},
    {'type': 'token', 'token': 'Hi'},
    {'delta': {'token': 'foo'}},
    'message Login {\n  string user = 1;\n  string password = 2;\n  optional string token = 3;\n}',
    'input LoginInput { user: String! password: String! token: ID }',
    'password = models.CharField(max_length=128)',
    'token = Column(String(64), unique=True)',
    {'errors': {'password': ['must be at least 8 characters']}},
    'expect(token).toBe("Bearer")\nexpect(token.type).toBe("IDENT1")\nassertEquals("token_type", token)\nself.assertEqual(token, "<")',
    'assert_eq!(token, Token::Ident("x1"))\nself.assertEqual(tokens[0], "foo1")\nif (strcmp(tok, "while1") == 0) {',
    'expect(screen.getByLabel("Password")).toBe("x1")\nif ("x1y2z3".equals(type)) {\nname.equals("abc123")',
    'Password (required): text\nsecret (optional): string\nAPI key (32 chars): abc\ntokens (per minute): 1000\npassword (min 8 chars):',
    'def password(self): return1\nfunction token(value): Node2\npassword[i] = buf2[j]\ntoken[idx] = line2',
    "le code d'accès est obligatoire\ncode d'erreur: E1234x7\nun mot d'ordre: bonjour",
    '<label>Token</label><input value="Search"><label>Password</label><input type="password" value="">',
    'curl -b cookies.txt https://x.io\nsend_keys("abc")\nThe objects identified by the user and those identified here.',
    'PASSWORD=changeme',
    'postgres://USER:PASSWORD@HOST/DB',
    'redis://:${REDIS_PASSWORD}@host',
    'secret: (redacted)',
    'AKIAIOSFODNN7EXAMPLE',
    {'session_id': '3d6e0853-3ced-4e61-a513-468010b6fb75', 'thread_id': 'thread_abc123abc123abc123abc123'},
    {'sessionId': 'abc'},
    'arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf',
    {'password': {'min_length': 12, 'max_age_days': 90}},
    {'token': {'ttl': 3600, 'type': 'jwt'}},
    {'secret': {'rotation_days': 90}},
    'password attempts: 3',
    'auth=basic',
    'credentials: include',
    "credentials: 'same-origin'",
    'cookie: strict',
    'pin: 3',
    "It's a secret: nobody knows.",
    'SID: S-1-5-21-3623811015-3361044348-30300820-1013',
    "Pat: I'll be there at 5",
    'jwt: json web token',
    'sig: signal',
    'hmac: sha256',
    'senha: obrigatória',
    'door code: ask Jane',
    'unlock code: n/a',
    'cvv: 3 digits',
    '| token | count |\n|---|---|\n| the | 812 |\n| of | 93 |\n',
    'token,freq\nthe,812\nof,93\n',
    '<table><tr><th>Token</th><th>Count</th></tr><tr><td>the</td><td>12</td></tr></table>',
    {'title': 'API key', 'text': 'Create API key'},
    {'login.password': 'Passwort', 'password': 'Mot de passe', 'api_key': 'Clé API', 'secret': 'Geheimnis'},
    '"password" = "Contraseña";',
    '# Copy to .env\nOPENAI_API_KEY=\nDATABASE_PASSWORD=\nSECRET_KEY=change-me\nSESSION_TTL=3600\nTOKEN_FILE=/run/secrets/token\n',
]  # fmt: skip


def left_of(redactor: Redactor, value: Any) -> str:
    """Return what leaves of a value, as a text."""
    left = redactor(a_span(value)).input
    return left if isinstance(left, str) else bytes(left or b"").decode()


@pytest.mark.parametrize("name", ["password", "db_password", "passwd", "token", "api_key"])
def test_a_value_behind_a_tab_in_a_long_string_is_found(name: str) -> None:
    """In JSON the tab is an escape; the quotes of its string are far away."""
    long = "The agent looked at the documents. " * 20
    for value in ({"content": f"{long}\n{name}\tk9Xm2Qw7Tz\n{long}"}, f"{long}\n{name}\tk9Xm2Qw7Tz\n{long}"):
        assert "k9Xm2Qw7Tz" not in left_of(REDACTOR, value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_of_each_kind_is_found(kind: str) -> None:
    """Alone, in a message, and in the arguments of a call; nothing of it stays, and a second pass changes nothing."""
    for text in KINDS[kind]:
        for value in (text, {"content": text}, {"arguments": json.dumps({"text": text}, ensure_ascii=False)}):
            left = left_of(REDACTOR, value)
            assert not any(SECRET[at : at + 5] in left for at in range(len(SECRET) - 4)), (text, left)
            assert "[redacted:" in left
        for redactor in (REDACTOR, HASHED):
            once = left_of(redactor, text)
            assert left_of(redactor, once) == once, text


def test_texts_that_only_look_secret_stay() -> None:
    """Code, documentation, settings and answers about secrets, as text and in JSON."""
    for text in HARMLESS:
        for value in (text, {"content": text}):
            span = a_span(value)
            assert REDACTOR(span) is span, (text, left_of(REDACTOR, value))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("PASSWORD='k9Xm'\"2Qw7\"Tz ./run", ["k9Xm'", "2Qw7", "Tz "]),
        ("export TOKEN='k9Xm'\\''2Qw7Tz'", ["2Qw7Tz"]),
        ("--password=k9\\ Xm2Qw7Tz -v", ["Xm2Qw7Tz"]),
        ("['run', '--2fa', 'k9Xm2Qw7Tz']", ["k9Xm2Qw7Tz"]),
        ("--2fa-token k9Xm2Qw7Tz", ["k9Xm2Qw7Tz"]),
        ("password: k9'Xm2Qw7Tz", ["Xm2Qw7Tz"]),
        ("password=a<k9Xm2Qw7Tz", ["k9Xm2Qw7Tz"]),
        ("Authorization: Bearer k9Xm2Qw7Tz\r\n abcdefghi123\r\nHost: x", ["abcdefghi123"]),
        ("password: correct horse battery staple\n", ["horse", "staple"]),
        ("app password: AbC1 dEf2 GhI3 jKl4 MnO5 pQr6", ["dEf2", "pQr6"]),
        ("recovery codes: 1a2b-3c4d 5e6f-7g8h 9i0j-1k2l", ["7g8h", "1k2l"]),
        ("password = 'k9Xm' + \"2Qw7Tz\"", ["2Qw7Tz"]),
        ("password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6238643231\n", ["6238643231"]),
        ('{"kty": "EC", "d": "jpsQnnGQmL-YBIffH1136cspYG6"}', ["jpsQnnGQmL"]),
    ],
)
def test_a_value_is_taken_to_its_end(text: str, parts: list[str]) -> None:
    """There is never a mark with the rest of the secret beside it."""
    left = left_of(REDACTOR, text)
    assert not any(part in left for part in parts), left


@pytest.mark.parametrize(
    "text", ["call me at 4155550132 please", "Tel. 0301234567", "my mobile is 4155550132"]
)
def test_bare_digits_are_a_phone_number_behind_a_word_for_it(text: str) -> None:
    """And any number elsewhere."""
    redactor = Redactor(personal=["phone"])
    assert "[redacted:phone]" in left_of(redactor, text)
    assert left_of(redactor, "order 4155550132 took 1741569952 ms") == "order 4155550132 took 1741569952 ms"
