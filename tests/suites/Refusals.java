// Java's own HTTP client, refused while it sends. Usage: Refusals.java VERSION CA TIMES REQUESTS, where REQUESTS is JSON:
// [{"url", "bytes", "streamed"}, …]

import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class Refusals {
    static final Pattern REQUEST =
        Pattern.compile("\"url\": \"([^\"]*)\", \"bytes\": (\\d+), \"streamed\": (true|false)");

    public static void main(String[] words) throws Exception {
        HttpClient.Version version = words[0].equals("1") ? HttpClient.Version.HTTP_1_1 : HttpClient.Version.HTTP_2;
        HttpClient client = HttpClient.newBuilder().version(version).sslContext(trusting(words[1])).build();
        Matcher asked = REQUEST.matcher(words[3]);
        for (int number = 0; asked.find(); number++) {
            byte[] body = new byte[Integer.parseInt(asked.group(2))];
            Arrays.fill(body, (byte) 'x');
            boolean streamed = asked.group(3).equals("true");
            HttpRequest request = HttpRequest.newBuilder(URI.create(asked.group(1))).timeout(Duration.ofSeconds(20))
                .POST(streamed
                    ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                    : HttpRequest.BodyPublishers.ofByteArray(body))
                .build();
            for (int n = Integer.parseInt(words[2]); n > 0; n--) {
                send(client, request, number);
            }
        }
        System.exit(0);
    }

    static void send(HttpClient client, HttpRequest request, int number) throws InterruptedException {
        try {
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            print(number, answer.statusCode(), answer.body(), "");
        } catch (java.io.IOException error) {
            print(number, 0, "", error.toString());
        }
    }

    static SSLContext trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(authority)) {
            store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }

    static void print(int number, int status, String text, String error) {
        System.out.printf("{\"number\": %d, \"status\": %d, \"text\": %s, \"error\": %s}%n", number, status, quoted(text),
            quoted(error));
    }

    static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
    }
}
