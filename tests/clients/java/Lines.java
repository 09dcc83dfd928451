import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** The usual loop over the lines of the JDK's HTTP client. */
class Lines {
    private static String id = "";
    private static String data = "";

    public static void main(String[] args) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(args[0])).header("Accept", "text/event-stream");
        if (!args[1].isEmpty()) request.header("Last-Event-ID", args[1]);
        try {
            var response = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofLines());
            response.body().forEach(Lines::line);
        } catch (Exception failure) {
            print("{\"error\":" + quoted(failure.toString()) + "}");
            System.exit(1);
        }
        print("{\"end\":true}");
        System.exit(0);
    }

    private static void line(String line) {
        if (line.startsWith("id: ")) id = line.substring(4);
        if (line.startsWith("data: ")) data = line.substring(6);
        if (line.isEmpty() && !data.isEmpty()) {
            print("{\"data\":" + quoted(data) + ",\"id\":" + quoted(id) + "}");
            data = "";
        }
    }

    private static void print(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** JSON in ASCII. */
    private static String quoted(String text) {
        var out = new StringBuilder("\"");
        for (char unit : text.toCharArray()) {
            boolean isPlain = unit >= 0x20 && unit < 0x7f && unit != '"' && unit != '\\';
            out.append(isPlain ? String.valueOf(unit) : String.format("\\u%04x", (int) unit));
        }
        return out.append('"').toString();
    }
}
